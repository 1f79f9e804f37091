"""How long each prediction is beside its reference, in words, and whether it is empty.

length_ratio = words of the prediction / words of the reference; words are what stands between
white space. Neither a high nor a low ratio is better; a good one is near 1.
"""

from __future__ import annotations

import datasets
import evaluate

SETTINGS: dict = {}
COLUMNS = {
    "length_ratio": {"higher_is_better": None},
    "empty": {"higher_is_better": False},
}
NEEDS_MODEL = False


class Length(evaluate.Metric):
    """Length ratio and emptiness per example."""

    def _info(self):
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions, references):
        words = [len(text.split()) for text in predictions]
        wanted = [len(text.split()) for text in references]
        return {
            "length_ratio": [w / max(r, 1) for w, r in zip(words, wanted, strict=True)],
            "empty": [float(w == 0) for w in words],
        }
