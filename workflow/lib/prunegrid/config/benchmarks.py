"""Checks of benchmarks (tasks) that need other sections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prunegrid.config import row_checks
from prunegrid.config.fault import Fault
from prunegrid.config.tasks import Task

if TYPE_CHECKING:
    from prunegrid.config.validated import Config


def task_faults(config: Config, task: Task) -> Iterator[Fault]:
    """Yield the faults of a task, keys below it; that its data set exists is checked elsewhere."""
    dataset = config.sections["datasets"].get(task.dataset)
    if dataset is not None and dataset.kind != "rows":
        text = f"is '{task.dataset}', of kind {dataset.kind}; tasks read data of kind rows"
        yield Fault(("dataset",), text)
    yield from row_checks.of_splits(config, task, ("split", "shots_from"))
    yield from row_checks.apart(config, task.dataset, "shots_from", task.shots_from, task.split)
