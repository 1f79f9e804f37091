"""What a model does otherwise than the dense model that it was made of, on the same items."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from prunegrid.common.errors import nearest
from prunegrid.common.source_code import literals
from prunegrid.config.cells import Cell
from prunegrid.config.evaluations.kind import TASKS, Asked, Evaluation
from prunegrid.config.evaluations.perplexity import Perplexity
from prunegrid.config.evaluations.tasks import Tasks
from prunegrid.config.fault import Fault
from prunegrid.config.profile import Positive
from prunegrid.config.validated import Config

_TEXT, _TASKS = (literals(f"prunegrid.stages.{stage}") for stage in ("distances", "answers"))
# Accuracies among options: by their likelihood, or that over their length.
ACCURACIES = ("acc", "acc_norm", "acc_bytes")


class AgainstDense(Evaluation):
    """An evaluation of a model by its distance from the dense model it was made of."""

    FITS: ClassVar = _TEXT["FITS"]
    REFERS: ClassVar = {"windows": "evaluations", "tasks": "tasks"}
    NEUTRAL: ClassVar = tuple(name for name, up in _TASKS["METRICS"].items() if up is None)

    kind: Literal["against_dense"]
    windows: str | None = None
    tasks: list[str] = []
    batch_size: Positive = 8
    cache_dequantized: bool = False

    def conflicts(self) -> Iterator[str]:
        """Yield a sentence if it compares nothing, or one task twice."""
        if self.windows is None and not self.tasks:
            yield "names neither `windows` (an evaluation of kind perplexity) nor `tasks`"
        if len(set(self.tasks)) < len(self.tasks):
            yield "`tasks` names one twice"

    def asks(self, config: Config, name: str, cell: Cell) -> Iterator[Asked]:
        """Yield the comparison of next tokens, and that of answers, which reads the tasks' own."""
        if self.windows is not None:
            (text,) = config.profile("evaluations", self.windows).asks(config, name, cell)
            yield dataclasses.replace(text, stage="distances", form=TASKS, beside_dense=True)
        if self.tasks:
            (asked,) = self._asked(config).asks(config, name, cell)
            settings: dict[str, Any] = self.model_dump(include={"batch_size", "cache_dequantized"})
            settings["right_by"] = {
                folder: _accuracy(config, task) for task, folder in asked.names.items()
            }
            names = {f"{name}_{task}": folder for task, folder in asked.names.items()}
            yield Asked("answers", name, settings, {}, TASKS, names, reads=asked, beside_dense=True)

    def _asked(self, config: Config) -> Tasks:
        """Return the evaluation by its tasks; one of the study that equals it asks for the same."""
        own = self.model_dump(include={"tasks", "batch_size", "cache_dequantized"})
        return Tasks(kind="tasks", **own)

    def scored(self, config: Config, dataset: str) -> list[tuple[str, str]]:
        """Return the split of its windows, and that of each task."""
        text = config.sections["evaluations"].get(self.windows)
        of_text = text.scored(config, dataset) if isinstance(text, Perplexity) else []
        return of_text + (self._asked(config).scored(config, dataset) if self.tasks else [])

    def faults(self, config: Config) -> Iterator[Fault]:
        """Yield what is no perplexity, and tasks of which no answer can be right by likelihood."""
        known = config.sections["evaluations"]
        text = known.get(self.windows)
        if text is not None and not isinstance(text, Perplexity):
            fitting = [name for name, one in known.items() if isinstance(one, Perplexity)]
            hint = nearest(self.windows, fitting)
            what = f"is '{self.windows}', of kind {text.kind}; name one of kind perplexity; {hint}"
            yield Fault(("windows",), what)
        for index, name in enumerate(self.tasks):
            task = config.sections["tasks"].get(name)
            if task is None:
                continue
            form = (task.define or {}).get("output_type", "multiple_choice")
            if _accuracy(config, name) is None or form != "multiple_choice":
                what = f"is '{name}', whose metrics are {task.metrics}; answers are compared on "
                what += f"tasks of output_type multiple_choice, by one of {list(ACCURACIES)}"
                yield Fault(("tasks", index), what)

    def measures(self, config: Config, name: str) -> dict[str, list[str]]:
        """Return its metrics: of next tokens by its own name, of answers by its and the task's."""
        text = {name: list(_TEXT["METRICS"])} if self.windows is not None else {}
        return text | {f"{name}_{task}": list(_TASKS["METRICS"]) for task in self.tasks}

    def tasks_of(self, config: Config, name: str) -> dict[str, str]:
        """Return the data set of each task."""
        return {f"{name}_{task}": config.sections["tasks"][task].dataset for task in self.tasks}


def _accuracy(config: Config, task: str) -> str | None:
    """Return the first accuracy among a task's metrics, by which its items are right."""
    return next((m for m in config.profile("tasks", task).metrics if m in ACCURACIES), None)


PROFILE = AgainstDense
