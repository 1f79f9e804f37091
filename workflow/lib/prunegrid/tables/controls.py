"""Controls compared with the best cell, metric by metric.

A gaming control is a text that no reader would take for a summary. Where it beats the best cell of
its data set beyond the paired interval (of 95%, over the documents that both have a score on), the
metric is flagged: alone it says nothing. The best cell is chosen on the same documents, which
favours the cells, so the flag errs on the side of silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import pandas

from prunegrid.artifacts.parts import folder_of
from prunegrid.common.errors import PrunegridError
from prunegrid.tables.groups import Group, paired, scored_items
from prunegrid.tables.intervals import interval
from prunegrid.tables.schema import Plan, Row

# A cell must have a score on this share of the documents that the control has one on.
LEAST_SHARE = 0.5
# Means of equal numbers can differ in their last digits.
_ROUNDING = 1e-12


def control_rows(plan: Plan, groups: Sequence[Group], long: Sequence[dict]) -> list[dict]:
    """Return a row for every control, split and metric: its value beside the best cell's."""
    controls = {(b["dataset"], b["baseline"], b["split"]): b for b in plan["baselines"]}
    scores: dict[tuple, pandas.DataFrame] = {}
    rows = []
    for entry in long:
        key = (entry.get("dataset"), entry["name"], entry["split"])
        if entry["kind"] == "cell" or key not in controls:
            continue
        if key not in scores:
            scores[key] = pandas.read_parquet(folder_of(controls[key]["scores"]) / "scores.parquet")
        columns = ("study", "name", "dataset", "split", "metric", "value", "low", "high", "n")
        row = {name: entry[name] for name in (*columns, "higher_is_better")}
        # Cells that were scored against cut references are not comparable.
        rivals = [] if controls[key]["cut_references"] else groups
        rows.append({"role": entry["kind"], **row, **_against(plan, rivals, row, scores[key])})
    gaming = [row for row in rows if row["role"] == "gaming" and row["beats"] is not None]
    flags = {_metric(row): False for row in gaming}
    flags |= {_metric(row): True for row in gaming if row["beats"]}
    return [row | {"flagged": flags.get(_metric(row))} for row in rows]


def flag(long: Sequence[dict], controls: Sequence[dict]) -> list[dict]:
    """Return the long rows with `flagged`, as the controls say of their metrics."""
    flags = {_metric(row): row["flagged"] for row in controls}
    return [row | {"flagged": flags.get(_metric(row))} for row in long]


def _metric(row: Row) -> tuple[str, str, str]:
    return row.get("dataset"), row["split"], row["metric"]


def _against(
    plan: Plan, groups: Sequence[Group], row: Row, scores: pandas.DataFrame
) -> dict[str, Any]:
    """Return the columns that compare a control with the best cell; nulls without such a cell."""
    columns = ("best", "best_value", "difference", "difference_low", "difference_high", "beats")
    higher, key = row["higher_is_better"], (row["split"], row["metric"])
    rivals = []
    if higher is not None and row["metric"] in scores and row["value"] is not None:
        items = scored_items(scores, row["metric"])
        own = [group for group in groups if group.dataset == row["dataset"]]
        pairs = ((group, _paired_with(group, key, items)) for group in own)
        rivals = [(group, *values) for group, values in pairs if values is not None]
    if not rivals:
        return dict.fromkeys(columns)
    best, own, its = (max if higher else min)(rivals, key=lambda rival: rival[2].mean())
    low, high = interval(plan, own - its)
    return {
        "best": f"{best.model} / {best.name}",
        "best_value": float(its.mean()),
        "difference": float((own - its).mean()),
        "difference_low": low,
        "difference_high": high,
        "beats": low > _ROUNDING if higher else high < -_ROUNDING,
    }


def _paired_with(
    group: Group, key: tuple[str, str], items: pandas.DataFrame
) -> tuple[numpy.ndarray, numpy.ndarray] | None:
    """Return the scores of a control and of a group on the documents that both have a score on.

    None where it was scored on others, or on fewer than LEAST_SHARE of the control's: a cell that
    says next to nothing would be the best of what it says.
    """
    if key not in group.items or not all(f.index.equals(items.index) for f in group.items[key]):
        return None
    control = Group("", group.dataset, "", items={key: [items]}, same={key: group.same[key]})
    try:
        own, its, _ = paired(control, group, key, "")
    except PrunegridError:
        return None
    return (own, its) if len(own) >= LEAST_SHARE * items["weight"].sum() else None
