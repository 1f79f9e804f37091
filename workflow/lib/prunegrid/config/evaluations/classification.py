"""Classes of texts: a head is tuned on the frozen weights of an encoder, and asked other rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from prunegrid.common.source_code import literals
from prunegrid.config import row_checks
from prunegrid.config.cells import Cell
from prunegrid.config.evaluations.kind import TASKS, Asked, Evaluation
from prunegrid.config.fault import Fault
from prunegrid.config.profile import Positive, Profile, Rate
from prunegrid.config.validated import Config

Template = Annotated[str, Field(min_length=1)]


class Item(Profile):
    """What is made of a row: a text, or a pair of texts, and its label; Jinja templates."""

    text: Template
    pair: Template | None = None
    label: Template


class Classification(Evaluation):
    """An evaluation of an encoder by the classes of a data set's rows."""

    FITS: ClassVar = literals("prunegrid.stages.classification")["FITS"]
    REFERS: ClassVar = {"dataset": "datasets"}

    kind: Literal["classification"]
    dataset: str
    train_split: str
    train_rows: Positive | None = None
    split: str
    rows: Positive | None = None
    items: Annotated[list[Item], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=8)] = 128
    epochs: Positive = 10
    batch_size: Positive = 32
    learning_rate: Rate = 1e-3
    metrics: Annotated[list[Literal["acc", "mcc"]], Field(min_length=1)] = ["acc", "mcc"]

    def conflicts(self) -> Iterator[str]:
        """Yield a sentence if the head is tuned on what is scored."""
        if self.train_split == self.split:
            yield f"train_split is '{self.split}', which is scored; name another split"

    def asks(self, config: Config, name: str, cell: Cell) -> Iterator[Asked]:
        """Yield the one artifact: a tuned head and its answers, drawn from the config's seed."""
        settings = {**self.model_dump(exclude={"kind", "dataset"}), "seed": config.seed}
        data = {"data": (self.dataset, (self.train_split, self.split))}
        yield Asked("classification", name, settings, data, TASKS, {name: ""})

    def faults(self, config: Config) -> Iterator[Fault]:
        """Yield what its data set lacks, and whether a learned row is scored."""
        yield from row_checks.of_kind(config, self.dataset, "rows", self.kind)
        yield from row_checks.of_splits(config, self, ("train_split", "split"))
        yield from row_checks.apart(config, self, "train_split")

    def measures(self, config: Config, name: str) -> dict[str, list[str]]:
        """Return its metrics; a classification is a task of its evaluation's name."""
        return {name: self.metrics}

    def tasks_of(self, config: Config, name: str) -> dict[str, str]:
        """Return its data set."""
        return {name: self.dataset}


PROFILE = Classification
