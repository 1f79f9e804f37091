"""Progress of a study, from its artifacts and status records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prunegrid.artifacts.job_status import read_state, with_label
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import Node


def cell_states(graph: Graph, study: str) -> list[tuple[str, str, str]]:
    """Return (cell, state, detail) of each cell: done, running, failed (why) or missing (what)."""
    states = []
    for plan in graph.plans(study):
        cell = plan.cell
        name = " / ".join((cell.model, cell.names("prune"), cell.names("finetune")))
        if cell.seed is not None:
            name += f" / seed {cell.seed}"
        states.append((name, *_state(plan.leaves(), plan.nodes())))
    return states


def control_states(graph: Graph, study: str) -> list[tuple[str, str, str]]:
    """Return (control, state, detail) of each control on each split, as `cell_states` does."""
    return [
        (
            f"control {name} / {dataset} / {split}",
            *_state([part.node], [part.node.parents["data"], part.node]),
        )
        for (dataset, name, split), part in graph.controls(study).items()
    ]


def _state(leaves: Sequence[Node], nodes: Sequence[Node]) -> tuple[str, str]:
    """Return (state, detail) of a row that is read from `leaves` and made by `nodes`."""
    if all(Path(node.manifest).exists() for node in leaves):
        return "done", ""
    todo = [node for node in nodes if not Path(node.manifest).exists()]
    states = [(node, read_state(node.status) or {}) for node in todo]
    for node, state in states:
        if state.get("state") == "failed":
            return "failed", with_label(node.label, state["reason"])
    for node, state in states:
        if state.get("state") == "running":
            return "running", node.label
    return "missing", f"{len(nodes) - len(todo)} of {len(nodes)} steps done"
