"""Texts: summaries of the documents of the cell's data set, scored, with controls beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.common.source_code import literals
from prunegrid.config.cells import Cell
from prunegrid.config.evaluations.kind import TEXTS, Asked, Evaluation, metric_columns
from prunegrid.config.fault import Fault
from prunegrid.config.profile import Positive, Profile
from prunegrid.config.validated import Config


class Baseline(Profile):
    """A text without a model, scored beside the cells; keys beyond these are its method's."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    method: str


class Texts(Evaluation):
    """An evaluation of texts: predictions of summaries, scored."""

    FITS: ClassVar = literals("prunegrid.stages.predictions")["FITS"]
    REFERS: ClassVar = {"generation": "generation", "metrics": "metrics"}
    NAMES_DATA: ClassVar = False

    kind: Literal["texts"]
    splits: Annotated[list[str], Field(min_length=1)]
    rows: Positive | None = None
    generation: str
    metrics: Annotated[list[str], Field(min_length=1)]
    baselines: dict[str, Baseline] = {}

    def asks(self, config: Config, name: str, cell: Cell) -> Iterator[Asked]:
        """Yield the predictions of each split; the seed is read only where tokens are sampled."""
        generation = config.profile("generation", self.generation)
        prompt = config.profile("datasets", cell.dataset).prompt_settings()
        shared = {"rows": self.rows, "prompt": prompt}
        shared |= generation.model_dump()
        if generation.do_sample:
            shared["seed"] = config.seed_of(cell.seed)
        for split in self.splits:
            settings = {"split": split, **shared}
            scored = (self.metrics, cell.dataset, split)
            data = {"data": (cell.dataset, ())}
            does = f"generate {split}"
            yield Asked("predictions", does, settings, data, TEXTS, {split: ""}, scored)

    def scored(self, config: Config, dataset: str) -> list[tuple[str, str]]:
        """Return the splits of the cell's data set."""
        return [(dataset, split) for split in self.splits]

    def faults(self, config: Config) -> Iterator[Fault]:
        """Yield the faults of its controls."""
        for label, baseline in self.baselines.items():
            try:
                facts = plugins.baseline_facts(baseline.method)
            except PrunegridError as error:
                yield Fault(("baselines", label), f"{error.what}; {error.remedy}")
                continue
            for key in baseline.model_extra or {}:
                if key not in facts["SETTINGS"]:
                    hint = nearest(key, facts["SETTINGS"])
                    yield Fault(("baselines", label, key), f"is not its setting; {hint}")

    def measures(self, config: Config, name: str) -> dict[str, list[str]]:
        """Return the columns of its metrics for each split."""
        return dict.fromkeys(self.splits, metric_columns(config, self.metrics))


PROFILE = Texts
