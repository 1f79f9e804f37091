"""Bootstrap intervals over items, and which scores are no better than chance."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import pandas

from prunegrid.common.determinism import derived_seed
from prunegrid.tables.schema import Plan, Row, cell_key

RESAMPLES = 1000


def levels(row: Row, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return {chance, majority, at_chance} of a long row.

    Args:
        row: value, low, high and higher_is_better.
        record: what the evaluation recorded of the metric; one that knows them gives `chance` and
            `majority`, scores in the metric's own unit.

    A score is at chance where its interval (without one, it itself) reaches the better of the two
    levels, or is worse than both.
    """
    chance, majority = record.get("chance"), record.get("majority")
    known = [level for level in (chance, majority) if level is not None]
    at_chance, upwards = None, row["higher_is_better"]
    if known and upwards is not None and row["value"] is not None:
        bound = row["low" if upwards else "high"]
        bound = row["value"] if bound is None else bound
        at_chance = bound <= max(known) if upwards else bound >= min(known)
    return {"chance": chance, "majority": majority, "at_chance": at_chance}


def scores_at_chance(tall: pandas.DataFrame) -> set[tuple]:
    """Return (*cell_key, split, metric) of the cells' scores that chance could have given."""
    return scores_where(tall, "at_chance")


def scores_where(tall: pandas.DataFrame, column: str, least: float = 1) -> set[tuple]:
    """Return (*cell_key, split, metric) of the cells' scores with so much in a column."""
    rows = tall[(tall["kind"] == "cell") & (tall[column].astype("Float64").fillna(0) >= least)]
    return {(*cell_key(row), row["split"], row["metric"]) for row in rows.to_dict("records")}


@functools.lru_cache(maxsize=4)
def resampled(seed: int, n: int) -> numpy.ndarray:
    """Return the items of each bootstrap sample, int64 [RESAMPLES, n]; the same for the same n.

    `scipy.stats.bootstrap` draws the same items, but would change the last digit of published
    bounds, and draws them again for each metric.
    """
    picks = numpy.random.default_rng(seed).integers(0, n, size=(RESAMPLES, n))
    picks.flags.writeable = False
    return picks


def interval(
    plan: Plan, values: numpy.ndarray, weights: numpy.ndarray | None = None
) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of Σ values / Σ weights over items [n].

    Without weights it is that of the mean.
    """
    picks = resampled(plan["bootstrap_seed"], len(values))
    total = len(values) if weights is None else weights[picks].sum(axis=1)
    low, high = numpy.quantile(values[picks].sum(axis=1) / total, [0.025, 0.975])
    return float(low), float(high)


def mean_interval(plan: Plan, parts: Sequence[numpy.ndarray]) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of the mean of several means over items.

    Each part, float64 [its items], is resampled by itself.
    """
    draws = []
    for place, values in enumerate(parts):
        seed = derived_seed(plan["bootstrap_seed"], f"part {place}")
        draws.append(values[resampled(seed, len(values))].mean(axis=1))
    low, high = numpy.quantile(numpy.mean(draws, axis=0), [0.025, 0.975])
    return float(low), float(high)


def own_interval(facts: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return the 95% interval that a score of all items together came with; None without.

    Args:
        facts: what the metric or task returned besides; one that has resampled its items itself
            gives the percentiles, `low` and `high`.
    """
    return facts.get("low"), facts.get("high")
