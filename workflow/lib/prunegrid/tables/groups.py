"""Cells that differ by their seed alone, taken together; and such groups compared in pairs.

The paired bootstrap draws the same items (documents, or windows of a text) for both sides, so what
makes an item hard for both cancels out. Seeds are averaged before it: its interval says how much
other items would move the effect; how much other seeds would is the spread beside it.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import pandas

from prunegrid.artifacts.artifact_folder import MANIFEST
from prunegrid.common.errors import PrunegridError
from prunegrid.common.file_io import canonical_json, read_json
from prunegrid.tables.benchmarks import items_of
from prunegrid.tables.intervals import interval
from prunegrid.tables.schema import Plan, Row

Key = tuple[str, str]  # split, metric


@dataclass
class Group:
    """The cells of one model, data set, prune and finetune, one a seed.

    Attributes:
        items: (split, metric) → one frame a cell with `value` and `weight`, one row an item (of
            texts, indexed by the document's id); a score is Σ value / Σ weight over items.
        same: (split, metric) → what its items are, as JSON; cells whose items differ (other
            documents, another tokenizer's windows) cannot be paired.
    """

    model: str
    dataset: str
    name: str
    rows: list[dict] = field(default_factory=list)  # their rows of the table
    items: dict[Key, list[pandas.DataFrame]] = field(default_factory=dict)
    logarithmic: set[Key] = field(default_factory=set)  # whose scores are losses: perplexities
    same: dict[Key, set[str]] = field(default_factory=dict)

    def add(self, key: Key, frame: pandas.DataFrame, items: str) -> None:
        """Add a cell's items, and what they are."""
        self.items.setdefault(key, []).append(frame)
        self.same.setdefault(key, set()).add(items)

    def stacked(self, key: Key) -> numpy.ndarray:
        """Return the items of all cells: value and weight, float64 [cells, items, 2]."""
        return numpy.stack([frame.to_numpy(dtype=float) for frame in self.items[key]])

    def values(self, key: Key) -> list[float]:
        """Return the score of each seed (of a perplexity, itself and not its exponent)."""
        scores = [float(f["value"].sum() / f["weight"].sum()) for f in self.items[key]]
        return [float(numpy.exp(v)) for v in scores] if key in self.logarithmic else scores

    def mean(self, key: Key) -> float:
        """Return the mean over seeds (of perplexities the geometric mean)."""
        mean = statistics.geometric_mean if key in self.logarithmic else statistics.fmean
        return mean(self.values(key))

    def spread(self, key: Key) -> float | None:
        """Return the standard deviation over seeds, None for one."""
        values = self.values(key)
        return statistics.stdev(values) if len(values) > 1 else None


def collect(plan: Plan, rows: Sequence[Row]) -> list[Group]:
    """Return the groups of a study's cells that are not failed, in the order of its rows."""
    groups: dict[tuple, Group] = {}
    for cell, row in zip(plan["cells"], rows, strict=True):
        if row["status"] == "ok":
            key = (row["model"], row["dataset"], f"{row['prune']} / {row['finetune']}")
            group = groups.setdefault(key, Group(*key))
            group.rows.append(row)
            _add_items(plan, group, cell, row)
    for group in groups.values():
        # Metrics of a whole corpus have no items, and a silent cell may have no scored one.
        group.items = {
            key: frames
            for key, frames in group.items.items()
            if all(frame["weight"].sum() > 0 for frame in frames)
        }
    return list(groups.values())


def _add_items(plan: Plan, group: Group, cell: Mapping, row: Row) -> None:
    """Add the items of a cell's texts, perplexities and tasks to its group."""
    for split, pair in cell["texts"].items():
        items = pandas.read_parquet(Path(pair["scores"]["path"], "scores.parquet"))
        # Ids alone may be numbers that another data set has too.
        same = canonical_json([row.get("data_sha256"), items["id"].astype(str).tolist()])
        for metric in (m for m in items if f"{split}_{m}" in row):
            group.add((split, metric), scored_items(items, metric), same)
    for evaluation, ref in cell["perplexities"].items():
        windows = pandas.read_parquet(Path(ref["path"], "windows.parquet"))
        frame = windows.rename(columns={"loss": "value", "units": "weight"})
        record = read_json(Path(ref["path"], MANIFEST))["record"]
        # A text's words are the same for every tokenizer, its windows of tokens are not.
        text = None if record.get("unit") == "word" else record.get("tokens_sha256")
        same = canonical_json([text, frame["weight"].tolist()])
        group.add((evaluation, record["metric"]), frame[["value", "weight"]], same)
        group.logarithmic.add((evaluation, record["metric"]))
    for key, frame, same in items_of(plan, cell["tasks"]):
        group.add(key, frame, same)


def scored_items(scores: pandas.DataFrame, metric: str) -> pandas.DataFrame:
    """Return the items of a metric of texts by id; one without a score has no weight."""
    column = scores.set_index("id")[metric]
    return pandas.DataFrame(
        {"value": column.fillna(0).astype(float), "weight": column.notna().astype(float)}
    )


def paired(
    a: Group, b: Group, key: Key, where: str
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Return (values of a, values of b, weights), each [n], of the items that all of both scored.

    Seeds are averaged, item by item.

    Raises:
        PrunegridError: the two were not scored on the same items, or no item has all scores.
    """
    if a.same[key] != b.same[key] or len(a.same[key]) != 1:
        raise PrunegridError(
            "the two sides were not scored on the same items",
            where=where,
            expected="the same documents, or windows of one tokenizer's tokens",
        )
    sides = [group.stacked(key) for group in (a, b)]
    scored = numpy.all([(side[:, :, 1] > 0).all(axis=0) for side in sides], axis=0)
    if not scored.any():
        raise PrunegridError("no item has a score on both sides", where=where)
    values = [side[:, scored, 0].mean(axis=0) for side in sides]
    return values[0], values[1], sides[0][0, scored, 1]


def seeds_of(a: Group, b: Group, key: Key) -> dict[str, Any]:
    """Return the columns that say how many seeds two sides have and how these spread."""
    seeds = {"seeds_a": len(a.rows), "seeds_b": len(b.rows)}
    return seeds | {"spread_a": a.spread(key), "spread_b": b.spread(key)}


def pair_rows(plan: Plan, groups: Sequence[Group]) -> list[dict]:
    """Return a row for every two groups of a model and data set, and every metric with items."""
    rows = []
    for key, group in _by_metric(groups):
        for a, b in itertools.combinations(group, 2):
            with contextlib.suppress(PrunegridError):  # no item has a score of both
                rows.append({"study": plan["study"], **_compared(plan, key, a, b)})
    return rows


def _by_metric(groups: Sequence[Group]) -> Iterator[tuple[Key, list[Group]]]:
    """Yield each metric with the groups of one model and data set that have the same items."""
    for key in dict.fromkeys(key for group in groups for key in group.items):
        alike: dict[tuple, list[Group]] = {}
        for group in groups:
            if key in group.items and len(group.same[key]) == 1:
                place = (group.model, group.dataset, *group.same[key])
                alike.setdefault(place, []).append(group)
        yield from ((key, comparable) for comparable in alike.values())


def _compared(plan: Plan, key: Key, a: Group, b: Group) -> dict[str, Any]:
    of_a, of_b, weights = paired(a, b, key, f"{a.name} and {b.name}")
    ratio = key in a.logarithmic
    shown = numpy.exp if ratio else float
    low, high = interval(plan, of_a - of_b, weights)
    total = weights.sum()
    return {
        "model": a.model,
        "dataset": a.dataset,
        "split": key[0],
        "metric": key[1],
        "a": a.name,
        "b": b.name,
        "n": len(weights),
        **seeds_of(a, b, key),
        "value_a": float(shown(of_a.sum() / total)),
        "value_b": float(shown(of_b.sum() / total)),
        "effect": "ratio" if ratio else "difference",
        "value": float(shown((of_a - of_b).sum() / total)),
        "low": float(shown(low)),
        "high": float(shown(high)),
    }
