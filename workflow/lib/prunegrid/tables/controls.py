"""Controls compared with the best cell, metric by metric; metrics that a gaming control wins.

A gaming control is a text that no reader would take for a summary. Where it beats the best cell of
its data set beyond the paired interval (of 95%, over documents), the metric is flagged: alone it
says nothing. The best cell is chosen on the same documents, which favours the cells, so the flag
errs on the side of silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import pandas

from prunegrid.tables.groups import Group, scored_items
from prunegrid.tables.rows import resampled

# Means of equal numbers can differ in their last digits.
_ROUNDING = 1e-12

Metric = tuple[str, str, str]  # data set, split, metric


def control_rows(
    plan: Mapping[str, Any], groups: Sequence[Group], long: Sequence[dict]
) -> list[dict]:
    """Return a row for every control, split and metric: its value beside the best cell's.

    Args:
        plan: of the study.
        groups: its cells.
        long: the long rows of the controls; those of others are passed over.
    """
    known = {(b["dataset"], b["baseline"], b["split"]): b for b in plan["baselines"]}
    scores: dict[tuple, pandas.DataFrame] = {}
    rows = []
    for entry in long:
        key = (entry.get("dataset"), entry["name"], entry["split"])
        if entry["kind"] == "cell" or key not in known:
            continue
        if key not in scores:
            scores[key] = pandas.read_parquet(Path(known[key]["scores"]["path"], "scores.parquet"))
        facts = ("study", "name", "dataset", "split", "metric", "value", "low", "high", "n")
        row = {fact: entry[fact] for fact in (*facts, "higher_is_better")}
        # Cells that were scored against cut references are not comparable.
        rivals = [] if known[key]["cut_references"] else groups
        rows.append({"role": entry["kind"], **row, **_against(plan, rivals, row, scores[key])})
    flags = _flags(rows)
    return [row | {"flagged": flags.get(_metric(row))} for row in rows]


def flag(long: Sequence[dict], controls: Sequence[dict]) -> list[dict]:
    """Return the long rows with `flagged`, as the controls say of their metrics."""
    flags = {_metric(row): row["flagged"] for row in controls}
    return [row | {"flagged": flags.get(_metric(row))} for row in long]


def _metric(row: Mapping[str, Any]) -> Metric:
    return row.get("dataset"), row["split"], row["metric"]


def _flags(rows: Sequence[Mapping[str, Any]]) -> dict[Metric, bool]:
    flags: dict[Metric, bool] = {}
    for row in rows:
        if row["role"] == "gaming" and row["beats"] is not None:
            flags[_metric(row)] = flags.get(_metric(row), False) or row["beats"]
    return flags


def _against(
    plan: Mapping[str, Any],
    groups: Sequence[Group],
    row: Mapping[str, Any],
    scores: pandas.DataFrame,
) -> dict[str, Any]:
    """Return how a control stands against the best cell; nulls where they cannot be compared."""
    columns = ("best", "best_value", "difference", "difference_low", "difference_high", "beats")
    nothing = dict.fromkeys(columns)
    higher, key = row["higher_is_better"], (row["split"], row["metric"])
    if higher is None or row["metric"] not in scores or row["value"] is None:
        return nothing
    items = scored_items(scores, row["metric"])
    found = [group for group in groups if _comparable(group, row["dataset"], key, items)]
    if not found:
        return nothing
    best = (max if higher else min)(found, key=lambda group: group.mean(key))
    picks = resampled(plan, len(items))
    own = Group("", row["dataset"], row["name"], items={key: [items]})
    effect = own.draws(key, picks) - best.draws(key, picks)
    effect = effect[numpy.isfinite(effect)]
    value = row["value"] - best.mean(key)
    compared = nothing | {
        "best": f"{best.model} / {best.name}",
        "best_value": best.mean(key),
        "difference": value,
    }
    if not len(effect):
        return compared
    low, high = (float(bound) for bound in numpy.quantile(effect, [0.025, 0.975]))
    beats = low > _ROUNDING if higher else high < -_ROUNDING
    return compared | {"difference_low": low, "difference_high": high, "beats": beats}


def _comparable(group: Group, dataset: str, key: tuple[str, str], items: pandas.DataFrame) -> bool:
    """Whether a group was scored on the same documents, in the same order."""
    return (
        group.dataset == dataset
        and key in group.items
        and all(frame.index.equals(items.index) for frame in group.items[key])
    )
