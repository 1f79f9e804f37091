"""The points of a figure: the cells of a study with all their seeds together, and their scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pandas

from prunegrid.tables.groups import Group
from prunegrid.tables.headline import is_perplexity
from prunegrid.tables.intervals import interval
from prunegrid.tables.schema import Plan

KEYS = ["model", "dataset", "prune", "finetune"]
# Beside the sparsity, what tells two prunings of one method apart.
AXES = ("pattern", "units", "scope", "allocation", "refine", "update", "propagation", "calibration")


@dataclass(frozen=True)
class Score:
    """One measure of a cell."""

    value: float  # the mean over seeds (of perplexities the geometric mean)
    low: float | None  # lower end of its 95% interval over items; None where there is no interval
    high: float | None  # upper end of it
    seeds: tuple[float, ...]  # the value of each seed


Scores = Mapping[tuple, Score]  # by (*Cell.key, split, metric)


@dataclass(frozen=True)
class Cell:
    """A model, data set, pruning and tuning, all seeds together."""

    model: str
    dataset: str | None
    prune: str
    finetune: str
    method: str  # "dense" without a pruning
    axes: tuple[str | None, ...]  # the values of `AXES`
    target: float  # asked sparsity; 0.0 of the dense model
    share: float | None  # `share_gone`, the mean over seeds; None where every seed failed
    tuned: bool  # whether anything was done after the pruning
    trained: bool  # whether that trained
    arms: tuple[str, ...]  # the arms of an iterated grid that it is a point of
    seeds: int  # how many seeds it has
    failed: int  # how many of them failed

    @property
    def key(self) -> tuple[str | None, ...]:
        """Return (model, dataset, prune, finetune)."""
        return (self.model, self.dataset, self.prune, self.finetune)

    @property
    def place(self) -> tuple[str, str | None]:
        """Return (model, dataset)."""
        return (self.model, self.dataset)

    @property
    def is_dense(self) -> bool:
        """Return whether it is the untouched model."""
        return self.method == "dense" and not self.tuned

    @property
    def has_failed(self) -> bool:
        """Return whether all its seeds failed."""
        return self.failed == self.seeds


def share_gone(wide: pandas.DataFrame) -> pandas.Series:
    """Return the share of the dense model's prunable weights that are removed or zero, measured."""
    removed = wide["removed_prunable"].astype(float).fillna(0)
    return 1 - (1 - removed) * (1 - wide["sparsity_effective"].astype(float))


def cells_of(wide: pandas.DataFrame) -> list[Cell]:
    """Return the cells of a table, seeds together, in its order."""
    groups = wide.assign(share=share_gone(wide)).groupby(KEYS, sort=False, dropna=False)
    return [_cell(key, rows) for key, rows in groups]


def _cell(key: tuple, rows: pandas.DataFrame) -> Cell:
    first = {name: _plain(value) for name, value in rows.iloc[0].items()}
    share = rows["share"].astype(float).mean()
    return Cell(
        *(_plain(value) for value in key),
        method=first["method"],
        axes=tuple(first[name] for name in AXES),
        target=first["sparsity_target"] or 0.0,
        share=None if math.isnan(share) else float(share),
        tuned=first["strategy"] != "none",
        trained=first["loss_on"] is not None,
        arms=tuple(first["arm"].split("+")) if first["arm"] else (),
        seeds=len(rows),
        failed=int((rows["status"] != "ok").sum()),
    )


def _plain(value: Any) -> Any:
    return None if pandas.isna(value) else value


def scores_of(
    plan: Plan,
    tall: pandas.DataFrame,
    keys: Sequence[tuple[str, str]],
    groups: Sequence[Group] = (),
) -> dict[tuple, Score]:
    """Return the scores of all cells by (model, dataset, prune, finetune, split, metric).

    Args:
        groups: items of the cells; they give the interval of a mean over several seeds.
    """
    rows = tall[(tall["kind"] == "cell") & tall["value"].notna()]
    items = {(g.model, g.dataset, g.name): g for g in groups}
    scores = {}
    for split, metric in keys:
        own = rows[(rows["split"] == split) & (rows["metric"] == metric)]
        for key, seeds in own.groupby(KEYS, sort=False, dropna=False):
            cell = tuple(_plain(value) for value in key)
            group = items.get((*cell[:2], f"{cell[2]} / {cell[3]}"))
            scores[*cell, split, metric] = _score(plan, seeds, (split, metric), group)
    return scores


def _score(plan: Plan, rows: pandas.DataFrame, key: tuple[str, str], group: Group | None) -> Score:
    values = tuple(float(value) for value in rows["value"])
    if len(values) == 1:
        return Score(values[0], *(_plain(rows[name].iloc[0]) for name in ("low", "high")), values)
    logs = is_perplexity(key[1]) and min(values) > 0
    mean = float(numpy.exp(numpy.log(values).mean()) if logs else numpy.mean(values))
    return Score(mean, *(_interval(plan, group, key) if group else (None, None)), values)


def _interval(plan: Plan, group: Group, key: tuple[str, str]) -> tuple[float | None, float | None]:
    """Return the 95% bootstrap interval over items of a mean over seeds; None without items."""
    if len(group.items.get(key, ())) < 2 or len(group.same[key]) > 1:
        return None, None
    items = group.stacked(key)
    scored = (items[:, :, 1] > 0).all(axis=0)
    if not scored.any():
        return None, None
    low, high = interval(plan, items[:, scored, 0].mean(axis=0), items[0, scored, 1])
    return (math.exp(low), math.exp(high)) if key in group.logarithmic else (low, high)
