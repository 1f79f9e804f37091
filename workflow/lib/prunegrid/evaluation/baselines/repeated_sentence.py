"""The first sentence of the reference, again and again. It games metrics of precision."""

from __future__ import annotations

import pandas as pd

from prunegrid.evaluation.setting_checks import require_number
from prunegrid.evaluation.text_analysis.words import split_sentences

CITE: tuple[str, ...] = ()  # none: a control of this project
ROLE = "gaming"
SETTINGS = {"times": 3}
MEANINGS = {
    "times": "How often the sentence stands there.",
}


def predict(rows: pd.DataFrame, settings: dict, seed: int | None) -> list[str]:
    """Return the first sentence of each reference `times` times (2 or more), joined by spaces."""
    require_number("times", settings["times"], 2)
    return [
        " ".join(split_sentences(summary)[:1] * settings["times"]) for summary in rows["summary"]
    ]
