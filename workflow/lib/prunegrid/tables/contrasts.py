"""The contrasts that a study declares: two cells, one metric, one verdict each.

Tests and intervals are those of `prunegrid.tables.inference`, over the items that both sides were
scored on, seeds averaged first: they speak of other items, not of other seeds. The spread over
seeds stands beside them. All tests of a study are one family: p-values are Holm's over the declared
contrasts and margins, those included that could not be measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas

from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.tables import inference
from prunegrid.tables.groups import Group, collect, paired
from prunegrid.tables.schema import CONTRASTS

BETTER, WORSE, NON_INFERIOR = "better", "worse", "non-inferior"
UNSEEN = "not distinguishable at this n"
TOO_FEW = "too few items for a verdict"
CHANCE = "not ranked: at chance"
MISSING = "not measured"


def contrast_rows(
    plan: Mapping[str, Any], rows: Sequence[dict], tall: pandas.DataFrame
) -> list[dict]:
    """Return a row for every contrast that the study declares.

    Args:
        plan: the study's; its `contrasts` have name, a, b, split, metric and margin.
        rows: one a cell of the plan, in its order.
        tall: the long table, for directions and levels of chance.
    """
    made = []
    for entry in plan["contrasts"]:
        row = {column.name: None for column in CONTRASTS}
        row |= {"study": plan["study"], "contrast": entry["name"], "verdict": MISSING}
        row |= {"split": entry["split"], "metric": entry["metric"], "margin": entry["margin"]}
        try:
            row |= measured(plan, entry, rows, tall)
        except PrunegridError as error:
            row["reason"] = str(error)
        made.append(row)
    _corrected(made)
    for row in made:
        if row["reason"] is None:
            row["verdict"] = verdict(row)
        del row["_upwards"], row["_reachable"]
    return made


def _corrected(rows: Sequence[dict]) -> None:
    """Fill in Holm's p-values over all tests that the rows declare."""
    places = [(row, "p") for row in rows]
    places += [(row, "p_margin") for row in rows if row["margin"] is not None]
    adjusted = inference.holm([row[name] for row, name in places])
    for (row, name), value in zip(places, adjusted, strict=True):
        row[f"{name}_holm"] = value
    for row in rows:
        row.setdefault("_upwards", None)
        row["_reachable"] = row["p"] is not None and _reachable(places, row)
        if row["p_margin_holm"] is not None:
            row["non_inferior"] = row["p_margin_holm"] <= inference.LEVEL


def _reachable(places: Sequence[tuple[dict, str]], row: Mapping[str, Any]) -> bool:
    """Return whether a contrast's p-value would pass, were it the least that its n can give."""
    own = next(i for i, (other, name) in enumerate(places) if other is row and name == "p")
    values = [other[name] for other, name in places]
    values[own] = min(values[own], inference.least_p(row["n"]))
    return inference.holm(values)[own] <= inference.LEVEL


def verdict(row: Mapping[str, Any]) -> str:
    """Return the verdict on a: better, worse, non-inferior, not distinguishable, or not ranked.

    Where not even the clearest difference between so few items would have passed the correction,
    that is said. A side that is at chance is never called better; what is worse than such a side
    is not ranked.
    """
    neutral = 1.0 if row["effect"] == "ratio" else 0.0
    if row["p_holm"] <= inference.LEVEL and row["value"] != neutral:
        up = (row["value"] > neutral) == row["_upwards"]
        if row["at_chance"] in ("a" if up else "b", "both"):
            return CHANCE
        return BETTER if up else WORSE
    if row["non_inferior"]:
        return NON_INFERIOR if row["at_chance"] == "none" else CHANCE
    return UNSEEN if row["_reachable"] else TOO_FEW


def measured(
    plan: Mapping[str, Any], entry: Mapping[str, Any], rows: Sequence[dict], tall: pandas.DataFrame
) -> dict[str, Any]:
    """Return what of a contrast's row is measured: values, effect, interval, p-values, chance.

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
    sign = 1.0 if upwards else -1.0
    seed = plan["bootstrap_seed"]
    value, sd = inference.effect(d, w), inference.deviation(d, w)
    bounds = inference.interval(d, w, seed) or (None, None)
    shown = math.exp if ratio else float
    facts = {
        "metric": key[1],
        "a": _title(a),
        "b": _title(b),
        "n": len(d),
        "items": len(a.items[key][0]),
        "seeds_a": len(a.rows),
        "seeds_b": len(b.rows),
        "value_a": float(shown(of_a.sum() / w.sum())),
        "value_b": float(shown(of_b.sum() / w.sum())),
        "spread_a": a.spread(key),
        "spread_b": b.spread(key),
        "effect": "ratio" if ratio else "difference",
        "value": shown(value),
        "low": None if bounds[0] is None else shown(bounds[0]),
        "high": None if bounds[1] is None else shown(bounds[1]),
        "standardized": value / sd if sd else None,
        "p": inference.sign_flip_p(d, seed),
        "at_chance": _chance(tall, key, a, b),
        "precision": precision_differs(a.rows, b.rows),
        "_upwards": upwards,
    }
    least = inference.detectable(sd, len(d))
    facts["detectable"] = None if least is None else shown(least)
    if entry["margin"] is not None:
        margin = math.log1p(entry["margin"]) if ratio else entry["margin"]
        one_sided = inference.sign_flip_p(sign * d + margin * w, seed, one_sided=True)
        facts["p_margin"] = min(1.0, 2 * one_sided)
    return facts


def _side(
    plan: Mapping[str, Any], entry: Mapping[str, Any], side: str, rows: Sequence[dict]
) -> Group:
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
        found = ", ".join(_title(group) for group in groups) or "no cell"
        raise PrunegridError(
            f"chooses {found}", where=where, expected="one model, data set, prune and finetune"
        )
    return groups[0]


def _metric(entry: Mapping[str, Any], a: Group, b: Group) -> str:
    """Return the metric's name; of a perplexity it need not be given."""
    known = [m for s, m in a.items if s == entry["split"] and (s, m) in b.items]
    if entry["metric"] is None and len(known) == 1:
        return known[0]
    if entry["metric"] not in known:
        raise PrunegridError(
            f"no metric '{entry['metric']}' with items in {entry['split']}",
            where=f"contrast {entry['name']}",
            remedy=nearest(entry["metric"], known),
        )
    return entry["metric"]


def _direction(tall: pandas.DataFrame, key: tuple[str, str], entry: Mapping[str, Any]) -> bool:
    rows = tall[(tall["split"] == key[0]) & (tall["metric"] == key[1])]
    found = rows["higher_is_better"].dropna().unique()
    if len(found) != 1:
        raise PrunegridError(
            f"of {key[1]} neither more nor less is better",
            where=f"contrast {entry['name']}",
            remedy="name a metric that has a direction",
        )
    return bool(found[0])


def _chance(tall: pandas.DataFrame, key: tuple[str, str], a: Group, b: Group) -> str:
    """Return which sides have a cell that is not distinguishable from chance."""
    rows = tall[(tall["split"] == key[0]) & (tall["metric"] == key[1]) & (tall["kind"] == "cell")]
    rows = rows[rows["at_chance"].fillna(False).astype(bool)]
    low = {_cell(row) for _, row in rows.iterrows()}
    found = [
        side for side, group in (("a", a), ("b", b)) if any(_cell(row) in low for row in group.rows)
    ]
    return {0: "none", 2: "both"}.get(len(found), found[0] if found else "none")


def precision_differs(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> str | None:
    """Return in words how two sides differ in what they were computed in; None where they do not.

    Training is compared where both sides have any: rounding is then no part of what is contrasted.
    """
    told = []
    for column, what in (("compute_dtype", "tuned"), ("evaluation_dtype", "evaluated")):
        sides = [{row.get(column) for row in side} - {None} for side in (a, b)]
        if all(sides) and sides[0] != sides[1]:
            first, second = ("/".join(sorted(side)) for side in sides)
            told.append(f"{what} in {first} against {second}")
    return "; ".join(told) or None


def _cell(row: Mapping[str, Any]) -> tuple:
    seed = None if pandas.isna(row["seed"]) else int(row["seed"])
    return (*(row[key] for key in ("model", "dataset", "prune", "finetune")), seed)


def _title(group: Group) -> str:
    return f"{group.model} / {group.dataset} / {group.name}"
