"""Removal of disturbed timings, so that the next run measures again."""

from __future__ import annotations

import shutil
from pathlib import Path

from prunegrid.artifacts.artifact_folder import recorded
from prunegrid.artifacts.lock import no_live_run
from prunegrid.commands.repair import free_to_remove
from prunegrid.common.errors import AttestationError
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import Node


def remeasure(graph: Graph, study: str, *, every: bool = False) -> list[str]:
    """Remove a study's disturbed timings; return a line for each.

    The next run writes the tables again that hold them.

    Args:
        every: remove all of its timings, disturbed or not.

    Raises:
        PrunegridError: a run is under way in this folder.
    """
    removed = []
    with no_live_run():
        for node in timings(graph, study):
            why = _why(node, every)
            if why is None:
                continue
            with free_to_remove(node.path, node.key) as free:
                if free and node.path.is_dir():
                    shutil.rmtree(node.path)
                    removed.append(f"{node.label}: {why}")
    return removed


def timings(graph: Graph, study: str) -> list[Node]:
    """Return the nodes that time cells of a study, each once."""
    nodes = (plan.efficiency for plan in graph.plans(study))
    return list(dict.fromkeys(node for node in nodes if node))


def _why(node: Node, every: bool) -> str | None:
    """Return why a timing must be taken again; None if it stays, or there is none."""
    if not Path(node.manifest).exists():
        return None
    try:
        disturbed = recorded(node.path)["record"].get("disturbed")
    except (AttestationError, AttributeError, KeyError, TypeError):
        disturbed = ["its manifest cannot be read"]
    if disturbed:
        return "; ".join(disturbed)
    return "undisturbed" if every else None
