"""The contrasts that a study declares: two cells, one metric, one verdict each.

Tests and intervals are those of `prunegrid.tables.inference`, over the items that both sides were
scored on, seeds averaged first: they speak of other items, not of other seeds. The spread over
seeds stands beside them. All tests of a study are one family: p-values are Holm's over the declared
contrasts and margins, those included that could not be measured.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas

from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.tables import inference
from prunegrid.tables.groups import Group, collect, paired, seeds_of
from prunegrid.tables.intervals import scores_at_chance, scores_where
from prunegrid.tables.near_dense import DISTANCES
from prunegrid.tables.schema import CONTRASTS, Plan, Row, cell_key

BETTER, WORSE, NON_INFERIOR = "better", "worse", "non-inferior"
UNSEEN = "not distinguishable at this n"
TOO_FEW = "too few items for a verdict"
CHANCE = "not ranked: at chance"
NEAR = "not ranked: as good as dense"
MISSING = "not measured"
NOT_GIVEN = "not given"
DRIFTED = "the dense model has drifted from its known value"


def contrast_rows(
    plan: Plan, rows: Sequence[Row], tall: pandas.DataFrame, has_drifted: bool = False
) -> list[dict]:
    """Return a row for every contrast that the study declares.

    Args:
        plan: the study's; its `contrasts` have name, a, b, split, metric and margin.
        has_drifted: whether the dense model is not where it is known to be (`compared.drift`): then
            no contrast has a verdict.
    """
    contrasts = []
    for entry in plan["contrasts"]:
        row = {column.name: None for column in CONTRASTS} | {"_upwards": None}
        row |= {"study": plan["study"], "contrast": entry["name"], "verdict": MISSING}
        row |= {"split": entry["split"], "metric": entry["metric"], "margin": entry["margin"]}
        try:
            row |= measured(plan, entry, rows, tall)
        except PrunegridError as error:
            row["reason"] = str(error)
        contrasts.append(row)
    _correct(contrasts)
    for row in contrasts:
        del row["_upwards"]
        if has_drifted and row["reason"] is None:
            row |= {"verdict": NOT_GIVEN, "non_inferior": None, "reason": DRIFTED}
    return contrasts


def _correct(rows: Sequence[dict]) -> None:
    """Fill in Holm's p-values over all tests that the rows declare, and the verdicts."""
    places = [(i, "p") for i in range(len(rows))]
    places += [(i, "p_margin") for i, row in enumerate(rows) if row["margin"] is not None]
    values = [rows[i][name] for i, name in places]
    for (i, name), adjusted in zip(places, inference.holm(values), strict=True):
        rows[i][f"{name}_holm"] = adjusted
    for i, row in enumerate(rows):
        if row["p_margin_holm"] is not None:
            row["non_inferior"] = row["p_margin_holm"] <= inference.LEVEL
        if row["reason"] is None:
            # The p-value were it the least that its n can give.
            best = [*values[:i], min(values[i], inference.least_p(row["n"])), *values[i + 1 :]]
            reachable = inference.holm(best)[i] <= inference.LEVEL
            row["verdict"] = _verdict(row, UNSEEN if reachable else TOO_FEW)


def _verdict(row: Row, undecided: str) -> str:
    """Return the verdict on a: better, worse, non-inferior, not ranked, or `undecided`.

    A side that is at chance is never called better; what is worse than such a side is not ranked.
    A distance from the dense model ranks no side that is as good as it (`near_dense`).
    """
    if row["near_dense"] not in (None, "none"):
        return NEAR
    neutral = 1.0 if row["effect"] == "ratio" else 0.0
    if row["p_holm"] <= inference.LEVEL and row["value"] != neutral:
        up = (row["value"] > neutral) == row["_upwards"]
        if row["at_chance"] in ("a" if up else "b", "both"):
            return CHANCE
        return BETTER if up else WORSE
    if row["non_inferior"]:
        return NON_INFERIOR if row["at_chance"] == "none" else CHANCE
    return undecided


def measured(
    plan: Plan, entry: Mapping[str, Any], rows: Sequence[Row], tall: pandas.DataFrame
) -> dict[str, Any]:
    """Return the measured columns of a contrast: values, effect, interval, p-values, chance.

    Args:
        entry: name, a, b, split, metric and margin.

    Raises:
        PrunegridError: the sides cannot be compared.
    """
    a, b = (_side(plan, entry, side, rows) for side in ("a", "b"))
    key = (entry["split"], _metric(entry, a, b))
    upwards = _direction(tall, key, entry)
    of_a, of_b, w = paired(a, b, key, f"contrast {entry['name']}")
    d = of_a - of_b
    ratio = key in a.logarithmic
    shown = math.exp if ratio else float
    seed = plan["bootstrap_seed"]
    value, sd = inference.effect(d, w), inference.deviation(d, w)
    low, high = inference.interval(d, w, seed) or (None, None)
    detectable = inference.detectable(sd, len(d))
    facts = {
        "metric": key[1],
        "a": _title(a),
        "b": _title(b),
        "n": len(d),
        "items": len(a.items[key][0]),
        **seeds_of(a, b, key),
        "value_a": float(shown(of_a.sum() / w.sum())),
        "value_b": float(shown(of_b.sum() / w.sum())),
        "effect": "ratio" if ratio else "difference",
        "value": shown(value),
        "low": None if low is None else shown(low),
        "high": None if high is None else shown(high),
        "standardized": value / sd if sd else None,
        "detectable": None if detectable is None else shown(detectable),
        "p": inference.sign_flip_p(d, seed),
        "at_chance": _sides(scores_at_chance(tall), key, a, b),
        "near_dense": _near(tall, key, a, b),
        "precision": precision_differs(a.rows, b.rows),
        "_upwards": upwards,
    }
    if entry["margin"] is not None:
        margin = math.log1p(entry["margin"]) if ratio else entry["margin"]
        gain = (d if upwards else -d) + margin * w
        facts["p_margin"] = min(1.0, 2 * inference.sign_flip_p(gain, seed, one_sided=True))
    return facts


def _side(plan: Plan, entry: Mapping[str, Any], side: str, rows: Sequence[Row]) -> Group:
    """Return the cells of one side as a group.

    Raises:
        PrunegridError: they failed, or are not one model, data set, prune and finetune.
    """
    where = f"contrast {entry['name']}.{side}"
    wanted = {k: v if isinstance(v, list) else [v] for k, v in entry[side].items()}
    chosen = [
        (cell, row)
        for cell, row in zip(plan["cells"], rows, strict=True)
        if all(row[key] in values for key, values in wanted.items())
    ]
    failed = [row["reason"] for _, row in chosen if row["status"] != "ok"]
    if failed:
        raise PrunegridError(f"a cell of it failed: {failed[0]}", where=where)
    own = {**plan, "cells": [cell for cell, _ in chosen]}
    groups = collect(own, [row for _, row in chosen])
    if len(groups) != 1:
        names = ", ".join(_title(group) for group in groups) or "no cell"
        raise PrunegridError(
            f"chooses {names}", where=where, expected="one model, data set, prune and finetune"
        )
    return groups[0]


def _metric(entry: Mapping[str, Any], a: Group, b: Group) -> str:
    """Return the metric's name; of a perplexity it need not be given."""
    metrics = [m for s, m in a.items if s == entry["split"] and (s, m) in b.items]
    if entry["metric"] is None and len(metrics) == 1:
        return metrics[0]
    if entry["metric"] not in metrics:
        raise PrunegridError(
            f"no metric '{entry['metric']}' with items in {entry['split']}",
            where=f"contrast {entry['name']}",
            remedy=nearest(entry["metric"], metrics),
        )
    return entry["metric"]


def _direction(tall: pandas.DataFrame, key: tuple[str, str], entry: Mapping[str, Any]) -> bool:
    rows = tall[(tall["split"] == key[0]) & (tall["metric"] == key[1])]
    directions = rows["higher_is_better"].dropna().unique()
    if len(directions) != 1:
        raise PrunegridError(
            f"of {key[1]} neither more nor less is better",
            where=f"contrast {entry['name']}",
            remedy="name a metric that has a direction",
        )
    return bool(directions[0])


def _near(tall: pandas.DataFrame, key: tuple[str, str], a: Group, b: Group) -> str | None:
    """Return which sides have a cell that a distance does not rank; None if it is no distance."""
    return _sides(scores_where(tall, "near_dense"), key, a, b) if key[1] in DISTANCES else None


def _sides(scores: Collection[tuple], key: tuple[str, str], a: Group, b: Group) -> str:
    """Return which sides have a cell among scores: none, a, b or both."""
    of_a, of_b = (any((*cell_key(row), *key) in scores for row in group.rows) for group in (a, b))
    if of_a and of_b:
        return "both"
    return "a" if of_a else "b" if of_b else "none"


def precision_differs(a: Sequence[Row], b: Sequence[Row]) -> str | None:
    """Return in words how the compute precisions of two sides differ; None where they agree.

    Those of training are compared only where both sides were trained.
    """
    differences = []
    for column, what in (("compute_dtype", "tuned"), ("evaluation_dtype", "evaluated")):
        sides = [{row.get(column) for row in side} - {None} for side in (a, b)]
        if all(sides) and sides[0] != sides[1]:
            first, second = ("/".join(sorted(side)) for side in sides)
            differences.append(f"{what} in {first} against {second}")
    return "; ".join(differences) or None


def _title(group: Group) -> str:
    return f"{group.model} / {group.dataset} / {group.name}"
