"""How much each prediction repeats itself: the share of its word 4-grams that occurred before.

rep4 = 1 - (distinct 4-grams / 4-grams), "seq-rep-4" of Welleck et al. (2020), "Neural text
generation with unlikelihood training"; words are lower-cased and split at white space, where the
paper counts tokens. A text of fewer than four words has no 4-gram and no score (null).
"""

from __future__ import annotations

import datasets
import evaluate

SETTINGS: dict = {}
COLUMNS = {"rep4": {"higher_is_better": False}}
NEEDS_MODEL = False

_SIZE = 4


def repeated_share(text: str) -> float | None:
    """Return the share of repeated word 4-grams in [0, 1), None where there is no 4-gram."""
    words = text.lower().split()
    grams = list(zip(*(words[start:] for start in range(_SIZE)), strict=False))
    return (len(grams) - len(set(grams))) / len(grams) if grams else None


class Repetition(evaluate.Metric):
    """Repeated 4-grams per example."""

    def _info(self):
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions, references):
        return {"rep4": [repeated_share(text) for text in predictions]}
