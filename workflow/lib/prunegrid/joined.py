"""Benchmarks of one set of weights: an artifact each, and one job for all.

A task more must ask that one alone, so each has an artifact of its own. But to start a job and to
load and measure weights takes longer than many tasks do. So the first that is missing leads: its
job makes the others that are missing too, then its own. Snakemake knows of the leader alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from prunegrid.graph import Graph
from prunegrid.nodes import Node
from prunegrid.retention import is_there

STAGE = "tasks"


def leaves(graph: Graph, study: str, studies: Iterable[str]) -> list[Node]:
    """Return the nodes that a study's table waits for, each once: of those that are led, leaders.

    Args:
        graph: of the config.
        study: whose table it is; one of `studies`.
        studies: those that the run was asked for, in order.
    """
    wanted = tuple(studies)
    found: dict[Node, None] = {}
    for node in graph.study_leaves(study):
        led = _leaders(graph, node.parents["weights"], wanted) if node.stage == STAGE else {}
        found[led.get(node, node)] = None
    return list(found)


def others(graph: Graph, node: Node, studies: Iterable[str]) -> list[Node]:
    """Return the missing nodes that the job of `node` makes beside its own.

    Who leads whom does not change by studies that are asked for later, nor by what is made
    meanwhile as long as the leader is missing: a submitted job finds the same ones again.
    """
    led = _leaders(graph, node.parents["weights"], tuple(studies))
    return [other for other, leader in led.items() if leader is node and other is not node]


def _leaders(graph: Graph, weights: Node, studies: Iterable[str]) -> dict[Node, Node]:
    """Return {missing node: its leader} of the nodes that ask these weights."""
    found: dict[Node, Node] = {}
    for study in studies:
        asking = _asking(graph, study).get(weights, ())
        missing = [n for n in asking if n not in found and not is_there(n.manifest)]
        found |= dict.fromkeys(missing, missing[0] if missing else None)
    return found


@functools.cache
def _asking(graph: Graph, study: str) -> dict[Node, list[Node]]:
    """Return {weights: the nodes of a study that ask them}, in the study's order."""
    found: dict[Node, list[Node]] = {}
    for node in graph.study_leaves(study):
        if node.stage == STAGE:
            found.setdefault(node.parents["weights"], []).append(node)
    return found
