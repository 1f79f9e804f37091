"""Perplexity of windows of a text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from prunegrid.common.perplexity_names import metric_name
from prunegrid.common.source_code import literals
from prunegrid.config import local_checks, row_checks
from prunegrid.config.cells import Cell
from prunegrid.config.evaluations.kind import PERPLEXITIES, Asked, Evaluation
from prunegrid.config.fault import Fault
from prunegrid.config.profile import Positive
from prunegrid.config.validated import Config


class Perplexity(Evaluation):
    """An evaluation of a model: perplexity of windows of a text."""

    FITS: ClassVar = literals("prunegrid.stages.perplexity")["FITS"]
    REFERS: ClassVar = {"dataset": "datasets"}

    kind: Literal["perplexity"]
    dataset: str
    split: str
    protocol: Literal["nonoverlap", "stride", "words"] = "nonoverlap"
    window: Annotated[int, Field(ge=2)] = 2048
    stride: Positive | None = None
    max_windows: Positive | None = None
    special_tokens: bool = False
    cache_dequantized: bool = False

    def conflicts(self) -> Iterator[str]:
        """Yield what does not fit its protocol."""
        if (self.protocol == "stride") != (self.stride is not None):
            yield "`stride` belongs to `protocol`: stride, and only to it"
        if self.protocol == "words" and self.special_tokens:
            yield "`protocol` words takes the tokenizer's own; remove `special_tokens`"

    def asks(self, config: Config, name: str, cell: Cell) -> Iterator[Asked]:
        """Yield the one artifact: every window of the split, with its loss."""
        settings = self.model_dump(exclude={"kind", "dataset"})
        settings["column"] = config.profile("datasets", self.dataset).read_column
        data = {"data": (self.dataset, ())}
        yield Asked("perplexity", name, settings, data, PERPLEXITIES, {name: ""})

    def faults(self, config: Config) -> Iterator[Fault]:
        """Yield what its data set lacks."""
        yield from row_checks.of_splits(config, self, ("split",))
        yield from row_checks.no_rows(config, self.dataset)
        if text := local_checks.too_short(config, self.dataset, self.split, self.window - 1):
            yield Fault(("window",), text)

    def measures(self, config: Config, name: str) -> dict[str, list[str]]:
        """Return its one metric, named by the protocol."""
        return {name: [metric_name(self.protocol, self.window, self.stride, self.special_tokens)]}


PROFILE = Perplexity
