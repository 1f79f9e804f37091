"""The base of all kinds of evaluation: keys, fitting models, artifacts to ask for, scored splits.

A kind is one module of this package, named like the kind, which declares `PROFILE`: a class of this
base. Its stage (`prunegrid.stages`) does the work; tables know the three forms of a result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError
from prunegrid.config.cells import Cell
from prunegrid.config.fault import Fault
from prunegrid.config.profile import Profile
from prunegrid.config.validated import Config

# The form in which a table reads a result: predictions with scores, windows of a text, or scores
# by item.
TEXTS, PERPLEXITIES, TASKS = "texts", "perplexities", "tasks"


@dataclass(frozen=True)
class Asked:
    """One artifact that an evaluation asks for.

    Attributes:
        stage: the stage that makes it.
        does: its label, after that of the weights.
        settings: the settings that the stage reads, plain builtins; they are in its key.
        data: {role: (data set, the splits that it reads; () for all)}.
        form: TEXTS, PERPLEXITIES or TASKS.
        names: {name in the table: its folder in the artifact; "" for the artifact itself}.
        scored: (metrics, data set, split) of predictions that are scored; None of others.
        reads: an artifact that it reads beside the weights, asked of the same weights: its parent
            `answers`.
        beside_dense: whether it compares with the untouched model: its parent `dense` is that
            model's artifact of `reads`, or without that its weights.
    """

    stage: str
    does: str
    settings: Mapping[str, Any]
    data: Mapping[str, tuple[str, tuple[str, ...]]]
    form: str
    names: Mapping[str, str]
    scored: tuple[list[str], str, str] | None = None
    reads: Asked | None = None
    beside_dense: bool = False


class Evaluation(Profile):
    """An evaluation of any kind.

    Attributes:
        FITS: tasks of the models that it asks.
        REFERS: {its key: the section whose names it holds}.
        NAMES_DATA: whether it names its data; if not, it scores on the cell's own data set.
        NEUTRAL: its metrics of which neither more nor less is better, beside those of texts.
    """

    FITS: ClassVar[tuple[str, ...]]
    REFERS: ClassVar[Mapping[str, str]] = {}
    NAMES_DATA: ClassVar[bool] = True
    NEUTRAL: ClassVar[tuple[str, ...]] = ()

    def asks(self, config: Config, name: str, cell: Cell) -> Iterator[Asked]:
        """Yield the artifacts that it asks for of a cell's weights, under its profile's name."""
        raise NotImplementedError

    def scored(self, config: Config, dataset: str) -> list[tuple[str, str]]:
        """Return the (data set, split) that it scores on; `dataset` is that of the cell."""
        return [(self.dataset, self.split)]

    def faults(self, config: Config) -> Iterator[Fault]:
        """Yield its faults, keys below it; names that do not exist are reported elsewhere."""
        yield from ()

    def measures(self, config: Config, name: str) -> dict[str, list[str]]:
        """Return {name in the table: its metrics}; see `metric_columns` for patterns in them."""
        raise NotImplementedError

    def tasks_of(self, config: Config, name: str) -> dict[str, str]:
        """Return {name in the table: its data set} of each part that could be learned as a task."""
        return {}


def declared_columns(config: Config, metric: str) -> dict[str, bool | None]:
    """Return {column: higher is better} of a metric of texts; {} if it does not declare any."""
    profile = config.sections["metrics"].get(metric)
    try:
        return profile and plugins.metric_columns(metric, profile.module, config.base) or {}
    except PrunegridError:  # the metric has a fault of its own
        return {}


def metric_columns(config: Config, metrics: Iterable[str]) -> list[str]:
    """Return the columns of metrics of texts; `name` and `name_*` if a metric declares none."""
    columns: dict[str, None] = {}
    for name in metrics:
        columns |= dict.fromkeys(declared_columns(config, name) or (name, f"{name}_*"))
    return list(columns)
