"""Texts: summaries of the documents of the cell's data set, scored, with controls beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.config.evaluations.kind import TEXTS, Asked, Evaluation
from prunegrid.config.fault import Fault
from prunegrid.config.profile import Positive, Profile
from prunegrid.config.prompt_settings import prompt_of, seed_of

if TYPE_CHECKING:
    from prunegrid.config.cells import Cell
    from prunegrid.config.validated import Config


class Baseline(Profile):
    """A text without a model, scored beside the cells; keys beyond these are its method's."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    method: str


class Texts(Evaluation):
    """An evaluation of texts: predictions of summaries, scored."""

    FITS: ClassVar = ("causal-lm",)
    REFERS: ClassVar = {"generation": "generation", "metrics": "metrics"}

    kind: Literal["texts"]
    splits: Annotated[list[str], Field(min_length=1)]
    rows: Positive | None = None
    generation: str
    metrics: Annotated[list[str], Field(min_length=1)]
    baselines: dict[str, Baseline] = {}

    def asks(self, config: Config, name: str, cell: Cell) -> Iterator[Asked]:
        """Yield the predictions of each split; the seed is read only where tokens are sampled."""
        generation = config.profile("generation", self.generation)
        shared = {"rows": self.rows, "prompt": prompt_of(config, cell.dataset)}
        shared |= generation.model_dump()
        if generation.do_sample:
            shared["seed"] = seed_of(config, cell.seed)
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

    def columns_of(self) -> list[str]:
        """Return its splits."""
        return self.splits


PROFILE = Texts
