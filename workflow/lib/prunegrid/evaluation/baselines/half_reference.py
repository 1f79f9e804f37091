"""The first half of the reference, scored against the whole of it: an oracle.

Where a data set has one reference a document, a part of it is the nearest thing to a second writer:
all that it says is right, and half is missing.
"""

from __future__ import annotations

import math

import pandas as pd

CITE: tuple[str, ...] = ()  # none: a control of this project
ROLE = "oracle"
SETTINGS = {"share": 0.5}
MEANINGS = {
    "share": "The share of the reference's words that is kept.",
}


def predict(rows: pd.DataFrame, settings: dict, seed: int | None) -> list[str]:
    """Return the first `share` of the words of each reference, rounded up, joined by spaces."""
    share = settings["share"]
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise ValueError(f"share is {share!r}; expected 0 < share <= 1")
    references = [summary.split() for summary in rows["summary"]]
    return [" ".join(words[: math.ceil(share * len(words))]) for words in references]
