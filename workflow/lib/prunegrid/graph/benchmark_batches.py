"""Benchmarks of one set of weights: an artifact each, and one job for all.

A task more must ask that one alone, so each has an artifact of its own. But to start a job and to
load and measure weights takes longer than many tasks do. So the first that is missing leads: its
job makes the others that are missing too. Snakemake knows of the leader alone, which therefore
reads the data of all of them. Tasks whose data could not be had are led apart, so that they keep
no other from being asked.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from prunegrid.artifacts.dropped import is_there
from prunegrid.artifacts.job_status import has_failed
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import Node

STAGE = "tasks"


def troubled(graph: Graph, study: str) -> list[str]:
    """Return the keys of the data of a study's tasks that an earlier run could not get."""
    data = (node.parents["data"] for node in graph.study_leaves(study) if node.stage == STAGE)
    return [
        node.key
        for node in dict.fromkeys(data)
        if not is_there(node.manifest) and has_failed(node.status)
    ]


def leaves(
    graph: Graph, study: str, studies: Iterable[str], apart: Iterable[str] = ()
) -> list[Node]:
    """Return the nodes that a study's table waits for, each once: of those that are led, leaders.

    Args:
        graph: of the config.
        study: whose table it is; one of `studies`.
        studies: those that the run was asked for, in order.
        apart: keys of data whose tasks have leaders of their own (see `troubled`).
    """
    leaders = _leaders_of(graph, study, studies, apart)
    return list(dict.fromkeys(leaders.get(node, node) for node in graph.study_leaves(study)))


def led(graph: Graph, study: str, studies: Iterable[str], apart: Iterable[str] = ()) -> list[Node]:
    """Return the nodes of a study that the jobs of others make (arguments as of `leaves`)."""
    found = _leaders_of(graph, study, studies, apart)
    return [node for node, leader in found.items() if node is not leader]


def others(
    graph: Graph, node: Node, studies: Iterable[str], apart: Iterable[str] = ()
) -> list[Node]:
    """Return the missing nodes that the job of `node` makes beside its own.

    Who leads whom does not change by studies that are asked for later, nor by what is made
    meanwhile, be it the leader itself: a submitted job finds the same ones again.
    """
    found = _leaders(graph, node.parents["weights"], studies, apart, node)
    return [other for other, leader in found.items() if leader is node and other is not node]


def _leaders_of(
    graph: Graph, study: str, studies: Iterable[str], apart: Iterable[str]
) -> dict[Node, Node]:
    """Return {missing node: its leader} of all tasks of the weights of a study."""
    studies, apart = tuple(studies), tuple(apart)
    found: dict[Node, Node] = {}
    for weights in _asking(graph, study):
        found |= _leaders(graph, weights, studies, apart)
    return found


def _leaders(
    graph: Graph,
    weights: Node,
    studies: Iterable[str],
    apart: Iterable[str],
    missing: Node | None = None,
) -> dict[Node, Node]:
    """Return {missing node: its leader} of the nodes that ask these weights.

    Args:
        missing: a node that counts as missing whether it is or not.
    """
    alone = set(apart)
    found: dict[Node, Node] = {}
    for study in studies:
        first: dict[str | None, Node] = {}
        for node in _asking(graph, study).get(weights, ()):
            if node not in found and (node is missing or not is_there(node.manifest)):
                data = node.parents["data"].key
                found[node] = first.setdefault(data if data in alone else None, node)
    return found


@functools.cache
def _asking(graph: Graph, study: str) -> dict[Node, list[Node]]:
    """Return {weights: the nodes of a study that ask them}, in the study's order."""
    found: dict[Node, list[Node]] = {}
    for node in graph.study_leaves(study):
        if node.stage == STAGE:
            found.setdefault(node.parents["weights"], []).append(node)
    return found
