"""Cells that differ by their seed alone, taken together; and such groups compared in pairs.

The paired bootstrap draws the same items (documents, or windows of a text) for both sides, so what
makes an item hard for both cancels out. Seeds are averaged before it: its interval says how much
other items would move the effect; how much other seeds would is the spread beside it.
"""

from __future__ import annotations

import hashlib
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
from prunegrid.tables.intervals import resampled


@dataclass
class Group:
    """The cells of one model, data set, prune and finetune, one a seed.

    Attributes:
        rows: their rows of the table.
        items: (split, metric) → one frame a cell with `value` and `weight`, one row an item (of
            texts, indexed by the document's id); a score is Σ value / Σ weight over items.
        logarithmic: the (split, metric) whose scores are exponents of a perplexity.
        same: (split, metric) → digests of what its items are; cells whose items differ (other
            documents, another tokenizer's windows) cannot be paired.
    """

    model: str
    dataset: str
    name: str
    rows: list[dict] = field(default_factory=list)
    items: dict[tuple[str, str], list[pandas.DataFrame]] = field(default_factory=dict)
    logarithmic: set[tuple[str, str]] = field(default_factory=set)
    same: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def add(self, metric: tuple[str, str], frame: pandas.DataFrame, items: str) -> None:
        """Add a cell's items, and the digest of what they are."""
        self.items.setdefault(metric, []).append(frame)
        self.same.setdefault(metric, set()).add(items)

    def values(self, metric: tuple[str, str]) -> list[float]:
        """Return the score of each seed (of a perplexity, itself and not its exponent)."""
        found = [float(f["value"].sum() / f["weight"].sum()) for f in self.items[metric]]
        return [float(numpy.exp(v)) for v in found] if metric in self.logarithmic else found

    def mean(self, metric: tuple[str, str]) -> float:
        """Return the mean over seeds (of perplexities the geometric mean)."""
        if metric in self.logarithmic:
            return statistics.geometric_mean(self.values(metric))
        return statistics.fmean(self.values(metric))

    def spread(self, metric: tuple[str, str]) -> float | None:
        """Return the standard deviation over seeds, None for one."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else None


def collect(plan: Mapping[str, Any], rows: Sequence[dict]) -> list[Group]:
    """Return the groups of a study's cells that are not failed, in the order of its rows.

    Args:
        rows: one a cell of the plan, in its order.
    """
    found: dict[tuple, Group] = {}
    for cell, row in zip(plan["cells"], rows, strict=True):
        if row["status"] != "ok":
            continue
        key = (row["model"], row["dataset"], f"{row['prune']} / {row['finetune']}")
        group = found.setdefault(key, Group(*key))
        group.rows.append(row)
        for split, pair in cell["texts"].items():
            items = pandas.read_parquet(Path(pair["scores"]["path"], "scores.parquet"))
            # Ids alone may be numbers that another data set has too.
            same = _digest([row.get("data_sha256"), items["id"].astype(str).tolist()])
            for metric in (m for m in items if f"{split}_{m}" in row):
                group.add((split, metric), scored_items(items, metric), same)
        for evaluation, ref in cell["perplexities"].items():
            windows = pandas.read_parquet(Path(ref["path"], "windows.parquet"))
            frame = windows.rename(columns={"loss": "value", "units": "weight"})
            record = read_json(Path(ref["path"], MANIFEST))["record"]
            key = (evaluation, record["metric"])
            # A text's words are the same for every tokenizer, its windows of tokens are not.
            text = None if record.get("unit") == "word" else record.get("tokens_sha256")
            same = _digest([text, frame["weight"].tolist()])
            group.add(key, frame[["value", "weight"]], same)
            group.logarithmic.add(key)
        for key, frame, same in items_of(plan, cell["tasks"]):
            group.add(key, frame, _digest(same))
    for group in found.values():
        # Metrics of a whole corpus have no items, and a silent cell may have no scored one.
        group.items = {
            key: frames
            for key, frames in group.items.items()
            if all(frame["weight"].sum() > 0 for frame in frames)
        }
        group.same = {key: group.same[key] for key in group.items}
    return list(found.values())


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def scored_items(scores: pandas.DataFrame, metric: str) -> pandas.DataFrame:
    """Return the items of a metric of texts by id; one without a score has no weight."""
    column = scores.set_index("id")[metric]
    return pandas.DataFrame(
        {"value": column.fillna(0).astype(float), "weight": column.notna().astype(float)}
    )


def pair_rows(plan: Mapping[str, Any], groups: Sequence[Group]) -> list[dict]:
    """Return a row for every two groups of a model and data set, and every metric with items."""
    return [
        row
        for (split, metric), some in _by_metric(groups)
        for row in _compared(plan, split, metric, some)
    ]


def _by_metric(groups: Sequence[Group]) -> Iterator[tuple[tuple[str, str], list[Group]]]:
    """Yield each metric with the groups of one model and data set that have the same items."""
    for metric in dict.fromkeys(metric for group in groups for metric in group.items):
        alike: dict[tuple, list[Group]] = {}
        for group in groups:
            if len(group.same.get(metric, ())) == 1:
                key = (group.model, group.dataset, *group.same[metric])
                alike.setdefault(key, []).append(group)
        yield from ((metric, some) for some in alike.values())


def paired(
    a: Group, b: Group, key: tuple[str, str], where: str
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
    sides = [
        numpy.stack([frame.to_numpy(dtype=float) for frame in group.items[key]]) for group in (a, b)
    ]
    kept = numpy.all([(side[:, :, 1] > 0).all(axis=0) for side in sides], axis=0)
    if not kept.any():
        raise PrunegridError("no item has a score on both sides", where=where)
    values = [side[:, kept, 0].mean(axis=0) for side in sides]
    return values[0], values[1], sides[0][0, kept, 1]


def effects(plan: Mapping[str, Any], d: numpy.ndarray, w: numpy.ndarray) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of Σ d / Σ w over items [n]."""
    picks = resampled(plan, len(d))
    low, high = numpy.quantile(d[picks].sum(axis=1) / w[picks].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _compared(
    plan: Mapping[str, Any], split: str, metric: str, groups: Sequence[Group]
) -> Iterator[dict]:
    key = (split, metric)
    for a, b in itertools.combinations(groups, 2):
        try:
            of_a, of_b, weights = paired(a, b, key, f"{a.name} and {b.name}")
        except PrunegridError:
            continue  # no item has a score of both: there is nothing to compare
        ratio = key in a.logarithmic
        shown = numpy.exp if ratio else float
        low, high = effects(plan, of_a - of_b, weights)
        total = weights.sum()
        yield {
            "study": plan["study"],
            "model": a.model,
            "dataset": a.dataset,
            "split": split,
            "metric": metric,
            "a": a.name,
            "b": b.name,
            "n": len(weights),
            "seeds_a": len(a.rows),
            "seeds_b": len(b.rows),
            "value_a": float(shown(of_a.sum() / total)),
            "value_b": float(shown(of_b.sum() / total)),
            "spread_a": a.spread(key),
            "spread_b": b.spread(key),
            "effect": "ratio" if ratio else "difference",
            "value": float(shown((of_a - of_b).sum() / total)),
            "low": float(shown(low)),
            "high": float(shown(high)),
        }
