"""The first sentence of the reference, again and again. It games metrics of precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation.text_analysis.words import split_sentences

ROLE = "gaming"
SETTINGS = {"times": 3}


def predict(rows: pd.DataFrame, settings: Mapping[str, Any], seed: int | None) -> list[str]:
    """Return the first sentence of each reference `times` times, joined by spaces.

    Args:
        rows: column summary (str).
        settings: {"times"}.
        seed: not used: nothing is drawn.

    Raises:
        PrunegridError: times is not a whole number of at least 2.
    """
    times = settings["times"]
    if isinstance(times, bool) or not isinstance(times, int) or times < 2:
        raise PrunegridError(
            f"times is {times!r}",
            where="baseline repeated_sentence",
            expected="a whole number of at least 2",
        )
    return [" ".join(split_sentences(summary)[:1] * times) for summary in rows["summary"]]
