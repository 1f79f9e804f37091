"""Progress of a study, from its artifacts and status records."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunegrid.artifacts.job_status import read_state, with_label
from prunegrid.commands.cli_config import ROOT
from prunegrid.common import machine
from prunegrid.common.durations import duration, roughly
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import Node, with_ancestors
from prunegrid.graph.pending import pending
from prunegrid.running import history, outlook
from prunegrid.tables import table_plan

STATES = ("done", "running", "failed", "missing")


@dataclass(frozen=True)
class Running:
    """A step that a job makes now.

    Attributes:
        label: its step in words.
        unit, done, of: how far its loop is, such as block 12 of 30; `of` is 0 if it says nothing.
        seconds: since it began; None if unknown.
        left: seconds that it takes yet, by its loop's pace or else by steps alike; None if unknown.
    """

    label: str
    unit: str = ""
    done: int = 0
    of: int = 0
    seconds: float | None = None
    left: float | None = None

    def text(self) -> str:
        """Return the step, how far it is, and the time that it took and takes yet."""
        parts = [f"{self.unit} {self.done:,} of {self.of:,}"] if self.of else []
        parts += [f"{duration(self.seconds)} so far"] if self.seconds is not None else []
        parts += [f"about {duration(self.left)} left"] if self.left is not None else []
        return f"{self.label} ({', '.join(parts)})" if parts else self.label


@dataclass(frozen=True)
class Snapshot:
    """How far a study is.

    Attributes:
        cells, controls: (name, state, detail) of each.
        steps, done: how many steps the study has, its table among them, and how many of them need
            not run.
        running: what runs now.
        failed: (reason, log) of the steps that failed.
        left: seconds until the end at this pace; None if no step but the table is left.
        is_guess: whether no finished step tells of most that is left.
    """

    study: str
    cells: list[tuple[str, str, str]]
    controls: list[tuple[str, str, str]]
    steps: int
    done: int
    running: list[Running]
    failed: list[tuple[str, str]]
    left: float | None
    is_guess: bool = False

    @property
    def is_done(self) -> bool:
        """Return whether nothing is left to make."""
        return self.done == self.steps

    def facts(self) -> tuple:
        """Return what a reader wants to hear of when it changes: steps done and failed."""
        return (self.done, tuple(self.failed))

    def head(self) -> str:
        """Return one line: cells and steps done, the time left."""
        cells = sum(state == "done" for _, state, _ in self.cells)
        text = f"{self.study}: {cells} of {len(self.cells)} cells done"
        text += f", {self.done} of {self.steps} steps"
        if self.left is None:
            return text
        about = f"about {roughly(self.left)} {'left' if self.running else 'of work left'}"
        return f"{text}, {about}{', a first guess' if self.is_guess else ''}"

    def now(self) -> list[str]:
        """Return lines of what runs now, and of what failed with its reason and log."""
        text = [f"  running  {one.text()}" for one in self.running]
        for reason, log in self.failed:
            text += [f"  FAILED   {reason}", f"           log: {log}"]
        return text

    def lines(self) -> list[str]:
        """Return all that there is to say: cells and controls, what runs, what failed, counts."""
        rows = [*self.cells, *self.controls]
        text = [
            f"{state:8} {name}{': ' + detail if detail else ''}" for name, state, detail in rows
        ]
        counts = Counter(state for _, state, _ in self.cells)
        text += [self.head(), *self.now()]
        text += [f"{self.study}: " + ", ".join(f"{counts[state]} {state}" for state in STATES)]
        if self.controls:
            done = sum(state == "done" for _, state, _ in self.controls)
            text += [f"controls: {done} of {len(self.controls)} done"]
        return text


class Watch:
    """Looks at a study again and again; estimates are read anew when a step has ended.

    Args:
        clock: gives the seconds of the epoch.
    """

    def __init__(self, graph: Graph, study: str, results: Path, clock: Any = time.time) -> None:
        self.graph, self.study, self.results, self.clock = graph, study, results, clock
        self.leaves = graph.study_leaves(study)
        self.table = table_plan.study_plan(graph, study, ROOT)
        self.nodes = with_ancestors(self.leaves)
        self.expected = outlook.Outlook({}, is_guess=False)
        self.beside = machine.cores()  # steps side by side, or more if more were seen

    def snapshot(self) -> Snapshot:
        """Return how far the study is now."""
        todo = pending(self.leaves)
        if set(todo) != set(self.expected.seconds):
            self.expected = outlook.expected(todo, history.seen(self.results))
        states = {node: read_state(node.status) or {} for node in todo}
        running = {
            node: self._running(node, state)
            for node, state in states.items()
            if state.get("state") == "running"
        }
        failed = [
            (with_label(node.label, state["reason"]), node.log)
            for node, state in states.items()
            if state.get("state") == "failed"
        ]
        own = {node: one.left or 0.0 for node, one in running.items()}
        self.beside = max(self.beside, len(running))
        left = outlook.together({**self.expected.seconds, **own}, self.beside)
        return Snapshot(
            self.study,
            cell_states(self.graph, self.study),
            control_states(self.graph, self.study),
            len(self.nodes) + 1,
            len(self.nodes) - len(todo) + (not todo and self._has_table()),
            list(running.values()),
            failed,
            left if todo else None,
            self.expected.is_guess,
        )

    def _has_table(self) -> bool:
        """Return whether the study's table is there, and the one that a run would make."""
        return table_plan.is_whole(self.table, self.results)

    def _running(self, node: Node, state: dict[str, Any]) -> Running:
        since, progress = state.get("since"), state.get("progress") or {}
        seconds = None if since is None else max(0.0, self.clock() - since)
        left = None if seconds is None else self.expected.seconds[node] - seconds
        left = left if left is not None and left > 0 else None  # longer than steps alike took
        if not progress:
            return Running(node.label, seconds=seconds, left=left)
        done, of, first = (progress[name] for name in ("done", "of", "first"))
        if done > first:
            left = progress["seconds"] / (done - first) * max(0, of - done)
        return Running(node.label, progress["unit"], done, of, seconds, left)


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
    far = f"{len(nodes) - len(todo)} of {len(nodes)} steps done"
    for node, state in states:
        if state.get("state") == "interrupted":
            return "missing", f"interrupted at {node.label}; {far}"
    return "missing", far
