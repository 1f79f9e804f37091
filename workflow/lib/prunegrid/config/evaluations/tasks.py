"""Benchmarks: tasks of lm-evaluation-harness, and means over some of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from prunegrid.artifacts.parts import part_folder
from prunegrid.common.errors import nearest
from prunegrid.common.source_code import literals
from prunegrid.config.cells import Cell
from prunegrid.config.evaluations.kind import TASKS, Asked, Evaluation
from prunegrid.config.fault import Fault
from prunegrid.config.profile import Name, Positive, Profile
from prunegrid.config.validated import Config


class MeanOf(Profile):
    """The mean of one metric over tasks, each with the same weight."""

    tasks: Annotated[list[str], Field(min_length=2)]
    metric: str = "acc"


class Tasks(Evaluation):
    """An evaluation of a model by benchmarks."""

    FITS: ClassVar = literals("prunegrid.stages.tasks")["FITS"]
    REFERS: ClassVar = {"tasks": "tasks"}

    kind: Literal["tasks"]
    tasks: Annotated[list[str], Field(min_length=1)]
    means: dict[Name, MeanOf] = {}
    batch_size: Positive = 8
    cache_dequantized: bool = False

    def asks(self, config: Config, name: str, cell: Cell) -> Iterator[Asked]:
        """Yield the one artifact: all benchmarks in order, a folder each."""
        tasks, data, folders = [], {}, {}
        for place, name_in_table in enumerate(self.tasks):
            profile = config.profile("tasks", name_in_table)
            task = profile.task or name_in_table
            tasks.append({**profile.model_dump(exclude={"dataset"}), "task": task})
            splits = tuple(filter(None, (profile.split, profile.shots_from)))
            data[f"data.{place}"] = (profile.dataset, splits)
            folders[name_in_table] = part_folder(place, task)
        settings = {"tasks": tasks, **self.model_dump(include={"batch_size", "cache_dequantized"})}
        yield Asked("tasks", name, settings, data, TASKS, folders)

    def scored(self, config: Config, dataset: str) -> list[tuple[str, str]]:
        """Return the split of each benchmark."""
        known = (config.sections["tasks"].get(task) for task in self.tasks)
        return [(task.dataset, task.split) for task in known if task is not None]

    def faults(self, config: Config) -> Iterator[Fault]:
        """Yield the faults of its means."""
        for name, mean in self.means.items():
            if name in config.sections["tasks"] or name in self.tasks:
                yield Fault(("means", name), "has the name of a task; rename it")
            for task in mean.tasks:
                if task not in self.tasks:
                    known = nearest(task, self.tasks)
                    yield Fault(("means", name), f"names '{task}', which is not evaluated; {known}")
                    continue
                profile = config.sections["tasks"].get(task)
                if profile is not None and mean.metric not in profile.metrics:
                    known = nearest(mean.metric, profile.metrics)
                    yield Fault(("means", name), f"wants {mean.metric} of '{task}'; {known}")

    def measures(self, config: Config, name: str) -> dict[str, list[str]]:
        """Return the metrics of each benchmark and mean."""
        known = config.sections["tasks"]
        metrics = {task: known[task].metrics for task in self.tasks if task in known}
        return metrics | {mean: [of.metric] for mean, of in self.means.items()}

    def tasks_of(self, config: Config, name: str) -> dict[str, str]:
        """Return the data set of each benchmark."""
        return {task: config.sections["tasks"][task].dataset for task in self.tasks}


PROFILE = Tasks
