"""What a kind of evaluation says of itself: its keys, its models, what it asks, what it scores on.

A kind is one module of this package, named like the kind, which declares `PROFILE`: a class of this
base. Its stage (`prunegrid.stages`) does the work; the three forms of a result are known to tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from prunegrid.config.fault import Fault
from prunegrid.config.profile import Profile

if TYPE_CHECKING:
    from prunegrid.config.cells import Cell
    from prunegrid.config.validated import Config

# How a table reads a result: predictions with scores, windows of a text, or scores by item.
TEXTS, PERPLEXITIES, TASKS = "texts", "perplexities", "tasks"


@dataclass(frozen=True)
class Asked:
    """One artifact that an evaluation asks for.

    Attributes:
        stage: that makes it.
        does: its label, after that of the weights.
        settings: what the stage reads, plain builtins; they are in its key.
        data: {role: (data set, the splits that it reads; () for all)}.
        form: TEXTS, PERPLEXITIES or TASKS.
        names: {name in the table: its folder in the artifact; "" for the artifact itself}.
        scored: (metrics, data set, split) of predictions that are scored; None of others.
    """

    stage: str
    does: str
    settings: Mapping[str, Any]
    data: Mapping[str, tuple[str, tuple[str, ...]]]
    form: str
    names: Mapping[str, str]
    scored: tuple[list[str], str, str] | None = None


class Evaluation(Profile):
    """An evaluation of any kind.

    Attributes:
        FITS: tasks of the models that it asks.
        REFERS: {its key: the section whose names it holds}.
        OWN_SPLITS: whether its name is that of a split in the table.
    """

    FITS: ClassVar[tuple[str, ...]]
    REFERS: ClassVar[Mapping[str, str]] = {}
    OWN_SPLITS: ClassVar[bool] = False

    def asks(self, config: Config, name: str, cell: Cell) -> Iterator[Asked]:
        """Yield what it asks the weights of a cell for, under the name of its profile."""
        raise NotImplementedError

    def scored(self, config: Config, dataset: str) -> list[tuple[str, str]]:
        """Return the (data set, split) that it scores on; `dataset` is that of the cell."""
        raise NotImplementedError

    def faults(self, config: Config) -> Iterator[Fault]:
        """Yield its faults, keys below it; names that do not exist are told elsewhere."""
        yield from ()

    def measures(self, config: Config, name: str) -> dict[str, list[str]]:
        """Return {name in the table: its metrics} of what has scores by item; {} of other forms."""
        return {}

    def tasks_of(self, config: Config, name: str) -> dict[str, str]:
        """Return {name in the table: its data set} of what could be learned as a task."""
        return {}

    def columns_of(self) -> list[str]:
        """Return the splits of the cell's data set that are columns of the table."""
        return []
