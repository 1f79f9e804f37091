"""Prune cells that share the Hessians of one dense model, and which of them does the work.

With propagation dense the Hessians are the same for every cell of a model and calibration, and too
large to be kept. So one job, the leader, prunes all cells of the run that are still missing, and
leaves each one's folder prepared in its scratch; the others wait for the leader and adopt theirs.
A cell whose prepared folder is not there prunes by itself: who leads changes no bytes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from prunegrid.artifacts.dropped import is_there
from prunegrid.common import plugins
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import Node


def companions(graph: Graph, node: Node, studies: Iterable[str]) -> list[Node]:
    """Return the missing nodes of the studies that share a dense model's Hessians with `node`.

    In the order of the studies and their cells; empty where `node` shares none.
    """
    if not _shares(node):
        return []
    found: dict[Node, None] = {}
    for study in studies:
        found |= dict.fromkeys(_groups(graph, study).get(_parents(node), ()))
    return [other for other in found if not is_there(other.manifest)]


def leader(graph: Graph, node: Node, studies: Iterable[str]) -> Node:
    """Return the node whose job prunes `node` too; `node` itself where it leads or is alone."""
    missing = companions(graph, node, studies)
    return missing[0] if node in missing else node


def params(graph: Graph, node: Node, studies: Iterable[str]) -> dict:
    """Return what the job of `node` needs, with the cells that it prunes beside its own."""
    others = [other for other in companions(graph, node, studies) if other is not node]
    led = others if leader(graph, node, studies) is node else []
    return {**node.params(), "together": [other.params() for other in led]}


def _shares(node: Node) -> bool:
    if node.settings.get("propagation") != "dense":
        return False
    update = node.settings.get("update")
    needs = [plugins.method_facts(node.settings["method"])["NEEDS"]]
    needs += [plugins.update_facts(update)["NEEDS"]] if update else []
    return "hessian" in needs


@functools.cache
def _groups(graph: Graph, study: str) -> dict[frozenset, list[Node]]:
    """Return {parents: the nodes of a study that share the Hessians of these}, in its order."""
    found: dict[frozenset, dict[Node, None]] = {}
    for plan in graph.plans(study):
        for node in plan.chain:
            if node.stage == "prune" and _shares(node):
                found.setdefault(_parents(node), {})[node] = None
    return {parents: list(nodes) for parents, nodes in found.items()}


def _parents(node: Node) -> frozenset[tuple[str, Node]]:
    return frozenset(node.parents.items())
