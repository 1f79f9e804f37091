"""The words of the reference in random order. It games metrics that hardly look at the order."""

from __future__ import annotations

import random

import pandas as pd

CITE: tuple[str, ...] = ()  # none: a control of this project
ROLE = "gaming"
SETTINGS: dict = {}
DRAWS = True


def predict(rows: pd.DataFrame, settings: dict, seed: int | None) -> list[str]:
    """Return the words of each reference, shuffled, joined by spaces.

    Seed and id of a row fix its order, so other rows do not change it.
    """
    texts = []
    for identifier, summary in zip(rows["id"], rows["summary"], strict=True):
        words = summary.split()
        random.Random(f"{seed} {identifier}").shuffle(words)
        texts.append(" ".join(words))
    return texts
