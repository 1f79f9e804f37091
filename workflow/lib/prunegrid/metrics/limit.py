"""Whether each prediction hit the limit of new tokens before it ended by itself.

`hit_limit` comes from generation: no stop token and no stop mark within `max_new_tokens`. Controls,
which no model wrote, have no score.
"""

from __future__ import annotations

import datasets
import evaluate

SETTINGS: dict = {}
COLUMNS = {"hit_limit": {"higher_is_better": False}}
NEEDS_MODEL = False


class Limit(evaluate.Metric):
    """The token limit per example."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            features=datasets.Features(
                {"predictions": text, "references": text, "hit_limit": datasets.Value("bool")}
            ),
        )

    def _compute(self, predictions, references, hit_limit):
        return {"hit_limit": [None if hit is None else float(hit) for hit in hit_limit]}
