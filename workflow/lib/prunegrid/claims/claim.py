"""What a published conclusion is, and where the conclusions were drawn."""

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
        seen: the public work that drew it (`SOURCES`).
        models, datasets, metrics: its scope.
        kind: a test of `prunegrid.claims.kinds`.
        settings: of that test.
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
    quantifier: Literal["all", "some"] = "all"


SOURCES = {
    "notebooks": "public notebooks on OPT and BillSum (2024)",
    "iterative": "a public repository on SparseGPT with fine-tuning (2023)",
    "magnitude": "a public course project on GPT-2 XL and M2M100 (2022)",
    "structured": "a public project on GPT-2 and OLMo-1B, structured pruning and several tasks",
}
# Metrics of quality on which a conclusion is looked at outside of its scope.
QUALITY = ("rougeLsum", "acc*", "ppl_*", "word_perplexity*")
