"""Checks of tasks, and of evaluations by them, that need other sections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prunegrid.common.errors import nearest
from prunegrid.config.families import Classification
from prunegrid.config.fault import Fault
from prunegrid.config.split_checks import shared
from prunegrid.config.tasks import Task, Tasks

if TYPE_CHECKING:
    from prunegrid.config.validated import Config


def evaluation_faults(config: Config, evaluation: Tasks) -> Iterator[Fault]:
    """Yield the faults of an evaluation by tasks, keys below it; names of tasks apart."""
    for name, mean in evaluation.means.items():
        if name in config.sections["tasks"] or name in evaluation.tasks:
            yield Fault(("means", name), "has the name of a task; rename it")
        for task in mean.tasks:
            if task not in evaluation.tasks:
                known = nearest(task, evaluation.tasks)
                yield Fault(("means", name), f"names '{task}', which is not evaluated; {known}")
                continue
            profile = config.sections["tasks"].get(task)
            if profile is not None and mean.metric not in profile.metrics:
                known = nearest(mean.metric, profile.metrics)
                yield Fault(("means", name), f"wants {mean.metric} of '{task}'; {known}")


def task_faults(config: Config, task: Task) -> Iterator[Fault]:
    """Yield the faults of a task, keys below it; that its data set exists is checked elsewhere."""
    dataset = config.sections["datasets"].get(task.dataset)
    if dataset is not None:
        if dataset.kind != "rows":
            text = f"is '{task.dataset}', of kind {dataset.kind}; tasks read data of kind rows"
            yield Fault(("dataset",), text)
        for key in ("split", "shots_from"):
            split = getattr(task, key)
            if split is not None and split not in dataset.splits:
                known = nearest(split, dataset.splits)
                yield Fault((key,), f"is '{split}', no split of '{task.dataset}'; {known}")
    shown = (task.dataset, task.shots_from)
    if task.shots_from is not None and shared(config, shown, (task.dataset, task.split)):
        text = f"is '{task.shots_from}', which shares rows with '{task.split}', which is scored; "
        yield Fault(("shots_from",), f"{text}slice them apart")


def measures(config: Config, name: str, evaluation: Any) -> dict[str, list[str]]:
    """Return {task or mean: its metrics} of an evaluation; {} of one of another kind.

    A classification is a task of its evaluation's name.
    """
    if isinstance(evaluation, Classification):
        return {name: evaluation.metrics}
    if not isinstance(evaluation, Tasks):
        return {}
    known = config.sections["tasks"]
    found = {task: known[task].metrics for task in evaluation.tasks if task in known}
    return found | {mean: [of.metric] for mean, of in evaluation.means.items()}
