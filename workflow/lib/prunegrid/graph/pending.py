"""Which steps a run would make: the ones that are missing and asked for, and what those need.

A missing artifact whose children are all there is not made: nothing asks for it. So it is with one
whose weights were dropped (`prunegrid.artifacts.dropped`): a step that is pending and reads it
asks for it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import DROPPABLE, Node, with_ancestors


def pending(leaves: Iterable[Node]) -> list[Node]:
    """Return the nodes that a run for these leaves would make, parents before children."""
    found: dict[Node, None] = {}
    whole: set[Node] = set()

    def visit(node: Node) -> None:
        if node in found or node in whole:
            return
        if Path(node.manifest).exists():
            whole.add(node)
            return
        for parent in node.parents.values():
            visit(parent)
        found[node] = None

    for leaf in leaves:
        visit(leaf)
    return list(found)


def readers(graph: Graph, studies: Iterable[str]) -> dict[Node, list[Node]]:
    """Return {weights that a study has made: the nodes of the studies that read them}."""
    return _readers(graph, tuple(studies))


@functools.cache
def _readers(graph: Graph, studies: tuple[str, ...]) -> dict[Node, list[Node]]:
    found: dict[Node, list[Node]] = {}
    leaves = (leaf for study in studies for leaf in graph.study_leaves(study))
    for node in with_ancestors(leaves):
        for parent in dict.fromkeys(node.parents.values()):
            if parent.stage in DROPPABLE:
                found.setdefault(parent, []).append(node)
    return found


def retired_by(graph: Graph, node: Node, studies: Iterable[str]) -> list[dict[str, Any]]:
    """Return the weights that may go once a node is made: {path, needed_by: manifests} each.

    Args:
        graph: of the config.
        node: the node that reads them.
        studies: those whose tables the run makes; without any, nothing goes.
    """
    return _unread(graph, dict.fromkeys(node.parents.values()), studies)


def retired(graph: Graph, studies: Iterable[str]) -> list[dict[str, Any]]:
    """Return all weights that may go once their readers are made, as `retired_by` does."""
    return _unread(graph, readers(graph, studies), studies)


def _unread(graph: Graph, nodes: Iterable[Node], studies: Iterable[str]) -> list[dict[str, Any]]:
    if graph.config.keep_weights != "until_used":
        return []
    known = readers(graph, studies)
    return [
        {"path": node.path.as_posix(), "needed_by": [reader.manifest for reader in known[node]]}
        for node in nodes
        if node in known
    ]
