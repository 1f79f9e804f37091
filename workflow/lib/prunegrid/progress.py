"""How far a study is, from its artifacts and status records alone."""

from __future__ import annotations

from pathlib import Path

from prunegrid.graph import CellPlan, Graph
from prunegrid.status import read_state


def cell_states(graph: Graph, study: str) -> list[tuple[str, str, str]]:
    """Return (cell, state, detail) of each cell: done, running, failed (why) or missing (what)."""
    found = []
    for plan in graph.plans(study):
        cell = plan.cell
        name = " / ".join((cell.model, cell.names("prune"), cell.names("finetune")))
        if cell.seed is not None:
            name += f" / seed {cell.seed}"
        found.append((name, *_state(plan)))
    return found


def _state(plan: CellPlan) -> tuple[str, str]:
    if all(Path(node.manifest).exists() for node in plan.leaves()):
        return "done", ""
    todo = [node for node in plan.nodes() if not Path(node.manifest).exists()]
    states = [(node, read_state(node.status) or {}) for node in todo]
    for node, state in states:
        if state.get("state") == "failed":
            return "failed", f"{node.label}: {state['reason']}"
    for node, state in states:
        if state.get("state") == "running":
            return "running", node.label
    done = len(plan.nodes()) - len(todo)
    return "missing", f"{done} of {len(plan.nodes())} steps done"
