"""The steps that a run would make: those that are missing and asked for, and what they need.

An artifact is made only if a step that will run reads it. This holds for weights that were dropped
(`prunegrid.artifacts.dropped`) too.
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
    return with_ancestors(leaves, unless=lambda node: Path(node.manifest).exists())


def readers(graph: Graph, studies: Iterable[str]) -> dict[Node, list[Node]]:
    """Return {weights that a study has made: the nodes of the studies that read them}."""
    return _readers(graph, tuple(studies))


@functools.cache
def _readers(graph: Graph, studies: tuple[str, ...]) -> dict[Node, list[Node]]:
    known: dict[Node, list[Node]] = {}
    leaves = (leaf for study in studies for leaf in graph.study_leaves(study))
    for node in with_ancestors(leaves):
        for parent in dict.fromkeys(node.parents.values()):
            if parent.stage in DROPPABLE:
                known.setdefault(parent, []).append(node)
    return known


def retired(
    graph: Graph, studies: Iterable[str], reader: Node | None = None
) -> list[dict[str, Any]]:
    """Return {path, needed_by: manifests} of weights that may go once all their readers are made.

    Args:
        studies: those whose tables the run makes; without any, nothing goes.
        reader: only weights that this node reads; None for all.
    """
    if graph.config.keep_weights != "until_used":
        return []
    known = readers(graph, studies)
    weights = known if reader is None else dict.fromkeys(reader.parents.values())
    return [
        {"path": node.path.as_posix(), "needed_by": [one.manifest for one in known[node]]}
        for node in weights
        if node in known
    ]
