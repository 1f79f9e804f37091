"""Whether each prediction hit the limit of new tokens; controls have no score."""

from __future__ import annotations

SETTINGS: dict = {}
CITE: tuple[str, ...] = ()  # none: counts tokens
COLUMNS = {"hit_limit": {"higher_is_better": False}}
MEANINGS = {
    "hit_limit": "0 to 1: the share of predictions that ended at the limit of new tokens.",
}


def compute(predictions, references, hit_limit):
    """Return for each example whether it hit the limit."""
    return {"hit_limit": [None if hit is None else float(hit) for hit in hit_limit]}
