"""The first half of the reference, scored against the whole of it: an oracle.

Where a data set has one reference a document, a part of it is the nearest thing to a second writer:
all that it says is right, and half is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from prunegrid.common.errors import PrunegridError

ROLE = "oracle"
SETTINGS = {"share": 0.5}


def predict(rows: pd.DataFrame, settings: Mapping[str, Any], seed: int | None) -> list[str]:
    """Return the first `share` of the words of each reference, rounded up, joined by spaces.

    Args:
        rows: column summary (str).
        settings: {"share"}.
        seed: not used: nothing is drawn.

    Raises:
        PrunegridError: share is not above 0 and at most 1.
    """
    share = settings["share"]
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise PrunegridError(
            f"share is {share!r}", where="baseline half_reference", expected="0 < share <= 1"
        )
    found = [summary.split() for summary in rows["summary"]]
    return [" ".join(words[: math.ceil(share * len(words))]) for words in found]
