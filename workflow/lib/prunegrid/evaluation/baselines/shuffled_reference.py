"""The words of the reference in random order. It games metrics that hardly look at the order."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pandas as pd

ROLE = "gaming"
SETTINGS: dict = {}
DRAWS = True


def predict(rows: pd.DataFrame, settings: Mapping[str, Any], seed: int | None) -> list[str]:
    """Return the words of each reference, shuffled, joined by spaces.

    Args:
        rows: columns id, summary (str).
        settings: none.
        seed: with a row's id, of its order: other rows do not change it.
    """
    texts = []
    for identifier, summary in zip(rows["id"], rows["summary"], strict=True):
        found = summary.split()
        random.Random(f"{seed} {identifier}").shuffle(found)
        texts.append(" ".join(found))
    return texts
