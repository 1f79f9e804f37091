"""Rows and items of tasks, and of the means over several tasks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas

from prunegrid.artifacts.artifact_folder import MANIFEST
from prunegrid.artifacts.parts import folder_of, record_of
from prunegrid.common.file_io import canonical_json, read_json
from prunegrid.tables.intervals import interval, levels, mean_interval, own_interval
from prunegrid.tables.near_dense import is_near
from prunegrid.tables.schema import Plan


def task_rows(
    plan: Plan,
    about: Mapping[str, Any],
    refs: Mapping[str, Mapping[str, str]],
    records: Mapping[str, Mapping[str, Any]],
) -> list[dict]:
    """Return the long rows of a cell's tasks and of the plan's means over them.

    Args:
        about: what all rows of the cell share.
        refs: {task: its artifact}.
        records: {task: its record}.
    """
    rows, items_by = [], {}
    for task, record in records.items():
        folder = folder_of(refs[task])
        scores = read_scores(folder)
        for metric, summary in record["summary"].items():
            named = {"split": task, "metric": metric, "shots": record["shots"]}
            named |= {"task_version": record["version"], "harness": record["harness"]}
            own = scores[scores["metric"] == metric]
            items, weights = own["value"].to_numpy(), own["weight"].to_numpy()
            items_by[task, metric] = items
            bounds = interval(plan, items, weights) if len(items) else own_interval(summary)
            named |= {"near_dense": is_near(plan, folder, summary)}
            rows.append(_row({**about, **named}, summary, bounds))
    for name, mean in plan["means"].items() if rows else ():
        if all(task in records for task in mean["tasks"]):
            parts = [records[task] for task in mean["tasks"]]
            summary = _mean_of([part["summary"][mean["metric"]] for part in parts])
            named = {"split": name, "metric": mean["metric"], "task_version": "mean"}
            named |= {"shots": _common(parts, "shots"), "harness": parts[0]["harness"]}
            items = [items_by[task, mean["metric"]] for task in mean["tasks"]]
            bounds = mean_interval(plan, items) if all(map(len, items)) else (None, None)
            rows.append(_row({**about, **named}, summary, bounds))
    return rows


def read_scores(folder: Path) -> pandas.DataFrame:
    """Return the scores of items: metric, id, value, weight, which is 1 where none is recorded.

    A score is Σ value / Σ weight over items.
    """
    scores = pandas.read_parquet(folder / "scores.parquet")
    return scores if "weight" in scores else scores.assign(weight=1.0)


def _row(about: dict, summary: Mapping[str, Any], bounds: tuple) -> dict:
    row = {**about, "value": summary["mean"], "low": bounds[0], "high": bounds[1]}
    row |= {name: summary[name] for name in ("n", "stderr", "higher_is_better")}
    return row | levels(row, summary)


def _common(records: list[Mapping[str, Any]], name: str) -> Any:
    """Return the value that all records have, None where they differ."""
    values = {record[name] for record in records}
    return values.pop() if len(values) == 1 else None


def _mean_of(summaries: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the summary of the mean of scores, each with the same weight.

    Tasks are independent, so its standard error is the root of the sum of squares over their
    number. The mean has a level (chance, majority) only if all of them have it.
    """
    mean: dict[str, Any] = {"n": sum(summary["n"] for summary in summaries)}
    for name in ("mean", "chance", "majority"):
        values = [summary[name] for summary in summaries]
        mean[name] = None if None in values else statistics.fmean(values)
    errors = [summary["stderr"] for summary in summaries]
    mean["stderr"] = None if None in errors else math.hypot(*errors) / len(errors)
    return mean | {"higher_is_better": _common(summaries, "higher_is_better")}


def items_of(
    plan: Plan, refs: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[tuple[str, str], pandas.DataFrame, str]]:
    """Yield ((task, metric), items with value and weight, what the items are) of a cell.

    A mean over tasks has all their items, each weighing one in its task's number of them.
    """
    tasks: dict[str, tuple[dict[str, pandas.DataFrame], str]] = {}
    for task, ref in refs.items():
        record = record_of(ref, read_json(Path(ref["path"], MANIFEST)))
        frames = {
            metric: rows.set_index("id")[["value", "weight"]]
            for metric, rows in read_scores(folder_of(ref)).groupby("metric", sort=False)
        }
        same = canonical_json([record["version"], record["items_sha256"]])
        tasks[task] = (frames, same)
        yield from (((task, metric), frame, same) for metric, frame in frames.items())
    for name, mean in plan["means"].items() if tasks else ():
        metric, parts = mean["metric"], [tasks.get(task) for task in mean["tasks"]]
        if all(part is not None and metric in part[0] for part in parts):
            scaled = [frames[metric] / len(frames[metric]) for frames, _ in parts]
            same = canonical_json([same for _, same in parts])
            yield (name, metric), pandas.concat(scaled), same
