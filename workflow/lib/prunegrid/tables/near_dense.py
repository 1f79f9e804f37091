"""Models whose quality overlaps the dense model's: a distance from it ranks none of them.

Distances (KL, agreement of tokens) say how much changed, not whether for the worse. Over models of
any quality they go with it; among those about as good as the dense model they do not (Nikolić et
al. 2026, arXiv:2606.19558). So a model whose perplexity has a 95% interval that overlaps the dense
model's, both over the windows on which the distance was taken, has no rank by it. The paper takes
the models that lose little on benchmarks; the interval here needs no benchmark and no threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas

from prunegrid.tables.intervals import interval
from prunegrid.tables.schema import Plan

DISTANCES = ("agreement", "kl")
WORDS = (
    "its perplexity has an interval that overlaps the dense model's on the same windows: KL and "
    "agreement say how much such a model changed, and rank none"
)


def is_near(plan: Plan, folder: Path, summary: Mapping[str, Any]) -> bool | None:
    """Return whether a model is so near that its distance ranks nothing; None of other scores.

    Args:
        folder: of a score, in it `windows.parquet` (stage `distances`).
        summary: of the score, as recorded; that of a distance says so.
    """
    if not summary.get("distance"):
        return None
    windows = pandas.read_parquet(folder / "windows.parquet")
    tokens = windows["tokens"].to_numpy()
    low, high = interval(plan, windows["loss"].to_numpy(), tokens)
    dense_low, dense_high = interval(plan, windows["dense_loss"].to_numpy(), tokens)
    return low <= dense_high and dense_low <= high
