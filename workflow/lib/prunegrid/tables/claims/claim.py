"""What a published conclusion is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Claim:
    """One published conclusion.

    Attributes:
        name: unique.
        says: the conclusion in a sentence.
        seen: the public work that drew it (`prunegrid.tables.claims.scopes.SOURCES`).
        models, datasets, metrics: its scope; a data set is what a cell was tuned on, and whose
            documents it was given.
        kind: a test of `prunegrid.tables.claims.kinds`.
        settings: of that test.
        splits: its scope too: of perplexities the evaluations, which say what text was read,
            whatever a cell was tuned on; of scores the splits of the data set.
        quantifier: whether all comparisons must bear it out, or some.
    """

    name: str
    says: str
    seen: str
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    metrics: tuple[str, ...]
    kind: str
    settings: Mapping[str, Any] = field(hash=False)
    splits: tuple[str, ...] = ("*",)
    quantifier: Literal["all", "some"] = "all"


# Metrics of quality on which a conclusion is looked at outside of its scope.
QUALITY = ("rougeLsum", "acc*", "ppl_*", "word_perplexity*")
