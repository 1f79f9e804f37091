"""Translations of a split's documents by an encoder-decoder, scored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from prunegrid.common.source_code import literals
from prunegrid.config import row_checks
from prunegrid.config.cells import Cell
from prunegrid.config.evaluations.kind import TEXTS, Asked, Evaluation, metric_columns
from prunegrid.config.fault import Fault
from prunegrid.config.profile import Positive
from prunegrid.config.validated import Config


class Translation(Evaluation):
    """An evaluation of an encoder-decoder: translations of a split's documents, scored."""

    FITS: ClassVar = literals("prunegrid.stages.translations")["FITS"]
    REFERS: ClassVar = {"dataset": "datasets", "generation": "generation", "metrics": "metrics"}

    kind: Literal["translation"]
    dataset: str
    split: str
    rows: Positive | None = None
    languages: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    generation: str
    metrics: Annotated[list[str], Field(min_length=1)]

    def asks(self, config: Config, name: str, cell: Cell) -> Iterator[Asked]:
        """Yield the translations; the seed is read only where tokens are sampled."""
        generation = config.profile("generation", self.generation)
        settings = {
            **self.model_dump(exclude={"kind", "dataset", "generation", "metrics"}),
            **generation.model_dump(),
            "prompt": config.profile("datasets", self.dataset).template_settings(),
            **({"seed": config.seed_of(cell.seed)} if generation.do_sample else {}),
        }
        data, scored = {"data": (self.dataset, ())}, (self.metrics, self.dataset, self.split)
        does = f"generate {name}"
        yield Asked("translations", does, settings, data, TEXTS, {name: ""}, scored)

    def faults(self, config: Config) -> Iterator[Fault]:
        """Yield what its data set lacks, and the keys of it that translations do not use."""
        yield from row_checks.of_kind(config, self.dataset, "summaries", self.kind)
        dataset = config.sections["datasets"].get(self.dataset)
        idle = [key for key in ("chat", "end", "max_tokens") if getattr(dataset, key, None)]
        if idle:
            text = f"is '{self.dataset}', which sets {idle}: a translation does not use them; "
            yield Fault(("dataset",), f"{text}name a data set without them")
        yield from row_checks.of_splits(config, self, ("split",))

    def measures(self, config: Config, name: str) -> dict[str, list[str]]:
        """Return the columns of its metrics."""
        return {name: metric_columns(config, self.metrics)}


PROFILE = Translation
