"""The reference of another document. It says what a good text about something else scores."""

from __future__ import annotations

import random

import pandas as pd

from prunegrid.common.errors import PrunegridError

CITE: tuple[str, ...] = ()  # none: a control of this project
ROLE = "gaming"
SETTINGS: dict = {}
DRAWS = True


def predict(rows: pd.DataFrame, settings: dict, seed: int | None) -> list[str]:
    """Return for each row the reference of another row, each used once.

    The seeded derangement is one cycle through all rows (Sattolo, 1986).

    Raises:
        PrunegridError: there is only one row.
    """
    if len(rows) < 2:
        raise PrunegridError(
            "there is no other document",
            where="baseline other_reference",
            expected="two rows or more",
        )
    draw, places = random.Random(seed), list(range(len(rows)))
    for last in range(len(places) - 1, 0, -1):
        other = draw.randrange(last)
        places[last], places[other] = places[other], places[last]
    summaries = rows["summary"].to_list()
    return [summaries[place] for place in places]
