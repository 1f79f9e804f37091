"""Comparisons that are evidence on a conclusion, kind by kind.

Sides are chosen by the columns of a cell. What a conclusion does not name is plain: pruned in one
round, uniformly, sequentially, without an update beside the method's own.

A measured ratio decides nothing within a `tolerance` of the bound, nor within the interval that its
timings have.
"""

from __future__ import annotations

import fnmatch
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from statistics import NormalDist
from typing import Any

import numpy
import pandas

from prunegrid.config.conclusions import Chance, Conclusion, Measure, Scores, Sensitivity
from prunegrid.tables.finished import Finished, standard_error
from prunegrid.tables.inference import Z
from prunegrid.tables.near_dense import DISTANCES

Row = dict[str, Any]
PLAIN: dict[str, list] = {
    "refine": [None],
    "update": [None],
    "allocation": ["uniform", None],
    "propagation": ["sequential", None],
    "iterative": [False],
}
# Metrics on which a conclusion is tested outside of its scope.
QUALITY = ("rougeLsum", "acc*", "ppl_*", "word_perplexity*")


def named(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a name fits one of the patterns (`ppl_*`)."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _is_side(claim: Conclusion, side: str, facts: Mapping[str, Any] | None) -> bool:
    """Return whether a cell is one of side a or b; a cell that failed has no facts."""
    own = {*claim.a, *claim.b, *claim.match}
    plain = {name: values for name, values in PLAIN.items() if claim.plain and name not in own}
    wanted = plain | getattr(claim, side)
    return facts is not None and all(facts.get(name) in wanted[name] for name in wanted)


def _fits(claim: Conclusion, tables: Finished, a: tuple, b: tuple) -> bool:
    one, two = tables.cells.get(a), tables.cells.get(b)
    are_sides = _is_side(claim, "a", one) and _is_side(claim, "b", two)
    return are_sides and all(one.get(name) == two.get(name) for name in claim.match)


def _pairs(claim: Conclusion, tables: Finished, metrics: Iterable[str] = ()) -> Iterator[Row]:
    """Yield the pairs that fit, as comparisons without a test, a and b as the conclusion has them.

    Each has its `cells`, the `raw` effect of a against b (of a ratio the logarithm), the same with
    the sign of "a is `better`" (None without direction), its `error`, and the `unit` of a loss.
    """
    patterns = tuple(metrics) or (*claim.scope.metric, *QUALITY)
    for row in tables.pairs.to_dict("records"):
        upwards = tables.directions.get((row["study"], row["split"], row["metric"]))
        if not named(row["metric"], patterns) or (upwards is None and not metrics):
            continue
        for a, b in ("ab", "ba"):
            cells = [(row["study"], row["model"], row["dataset"], row[side]) for side in (a, b)]
            if _fits(claim, tables, *cells):
                ratio = row["effect"] == "ratio"
                raw = (math.log if ratio else float)(row["value"]) * (1 if a == "a" else -1)
                pair = {name: row[name] for name in ("study", "dataset", "split", "metric", "n")}
                pair |= {"models": row["model"], "a": row[a], "b": row[b], "effect": row["effect"]}
                pair |= {"seeds": min(row["seeds_a"], row["seeds_b"]), "cells": cells, "raw": raw}
                pair |= {"better": raw if upwards else -raw, "error": standard_error(row)}
                pair["unit"] = 1.0 if ratio else float(row[f"value_{b}"])
                yield pair | _interval(raw, pair["error"], ratio)


def _interval(value: float, error: float, ratio: bool = False) -> Row:
    shown = math.exp if ratio else float
    bounds = {"value": value, "low": value - Z * error, "high": value + Z * error}
    return {name: shown(bound) for name, bound in bounds.items()}


def p_value(support: float, error: float) -> float:
    """Return the two-sided p-value of an estimate with a standard error, by the normal law."""
    if error == 0:
        return 1.0 if support == 0 else 0.0
    return 2 * NormalDist().cdf(-abs(support / error))


def _tested(support: float, error: float) -> Row:
    return {"support": support, "p": p_value(support, error), "note": ""}


def scores(claim: Scores, tables: Finished) -> Iterator[Row]:
    """Yield every pair with its test that a is better, or that its sides are equivalent.

    A side that is better and at chance is no evidence.
    """
    more = {}
    if claim.with_more is not None:
        others = _pairs(claim, tables, [claim.with_more])
        more = {(*other["cells"], other["split"]): other for other in others if other["raw"] > 0}
    for pair in _pairs(claim, tables):
        bound = math.log(claim.factor) if pair["effect"] == "ratio" else claim.margin
        if claim.kind == "equivalent":
            yield pair | _tested(bound - abs(pair["better"]), pair["error"])
            continue
        test = _tested(pair["better"] - bound, pair["error"])
        if claim.with_more is not None:
            if (other := more.get((*pair["cells"], pair["split"]))) is None:
                continue
            test["p"] = max(test["p"], p_value(other["raw"], other["error"]))
        winner = pair["cells"][0 if pair["better"] > 0 else 1]
        if (winner, pair["split"], pair["metric"]) in tables.low:
            as_dense = pair["metric"] in DISTANCES
            note = f"the better side is {'as good as dense' if as_dense else 'at chance'}"
            test |= {"p": 1.0, "note": note}
        yield pair | test


def measure(claim: Measure, tables: Finished) -> Iterator[Row]:
    """Yield the ratio of a's median over seeds to b's, of every two cells that have the column."""
    (column,) = claim.scope.metric
    values = tables.wide[column].dropna().groupby(tables.wide["cell"], sort=False)
    medians, seeds = values.median().astype(float), values.size()
    errors = _timing_errors(tables.wide, column)
    for a, b in itertools.permutations(medians.index, 2):
        if a[:3] == b[:3] and _fits(claim, tables, a, b) and min(medians[a], medians[b]) > 0:
            ratio = medians[a] / medians[b]
            share = claim.at_most / ratio if claim.at_most else ratio / claim.at_least
            row = _place(a, "", column) | {"b": b[3], "effect": "ratio", "value": ratio}
            row |= {"support": math.log(share), "seeds": min(seeds[a], seeds[b]), "note": ""}
            error = math.hypot(errors[a], errors[b])
            if math.log1p(claim.tolerance) < abs(math.log(share)) <= error:
                row["note"] = "within the 99.9% intervals of the timings"
            decides = abs(math.log(share)) > max(error, math.log1p(claim.tolerance))
            yield row | {"p": 0.0 if decides else 1.0}


def _timing_errors(wide: pandas.DataFrame, column: str) -> pandas.Series:
    """Return cell → half the width of its ratio's interval in logarithms; 0 where it has none."""
    if f"{column}_low" not in wide:
        return wide.groupby("cell", sort=False).size() * 0.0
    low, high = (wide[f"{column}_{end}"].astype(float) for end in ("low", "high"))
    # Seeds are timed alike: the widest counts for all.
    widths = numpy.log(high / low).where(wide[column] != 1.0, 0.0) / 2
    return widths.groupby(wide["cell"], sort=False).max().fillna(0.0)


def _place(cell: tuple, split: str, metric: str) -> Row:
    names = ("study", "models", "dataset", "a")
    return dict(zip(names, cell, strict=True)) | {"split": split, "metric": metric}


def sensitivity(claim: Sensitivity, tables: Finished) -> Iterator[Row]:
    """Yield the difference of two losses of a against b: of two models, or of two tasks.

    `across: model` compares the smaller model with the larger one on one task. `across: task`
    compares the tasks of one model, and claims a difference of more than `margin`. A loss is
    relative: of a perplexity the logarithm of the ratio, else the share of b's score.
    """
    models = claim.across == "model"
    same = (*(("study", "dataset", "split") if models else ("models",)), "metric", "a", "b")
    losses: dict[tuple, list[tuple[Any, Row]]] = {}
    for pair in (pair for pair in _pairs(claim, tables) if pair["unit"]):
        task = ("" if pair["effect"] == "ratio" else pair["dataset"], pair["split"])
        rank = tables.cells[pair["cells"][0]]["parameters"] if models else task
        what = pair["models"] if models else f"{pair['dataset']} {pair['split']}"
        key = tuple(pair[name] for name in same)
        losses.setdefault(key, []).append((rank, pair | {"title": f"{what}: {pair['a']}"}))
    for couple in (pair for some in losses.values() for pair in itertools.combinations(some, 2)):
        if couple[0][0] == couple[1][0]:  # one size, or one task
            continue
        (_, one), (_, two) = sorted(couple, key=lambda loss: loss[0])
        difference = two["better"] / two["unit"] - one["better"] / one["unit"]
        error = math.hypot(one["error"] / one["unit"], two["error"] / two["unit"])
        row = one | {name: min(one[name], two[name]) for name in ("n", "seeds")}
        row |= {"a": one["title"], "b": two["title"], "effect": "difference of relative losses"}
        row["models"] = " and ".join(dict.fromkeys((one["models"], two["models"])))
        support = difference if models else abs(difference) - claim.margin
        yield row | _interval(difference, error) | _tested(support, error)


def chance(claim: Chance, tables: Finished) -> Iterator[Row]:
    """Yield every score of side a; where the dense model is above chance and a is not, it was lost.

    Every seed must be above it. Shown is the one seed that decides: one at chance, or the worst.
    """
    rows = tables.long.dropna(subset=["chance", "at_chance"])
    worst = {
        key: min(seeds.to_dict("records"), key=_height) | {"seeds": len(seeds)}
        for key, seeds in rows.groupby(["cell", "split", "metric"], sort=False)
        if named(key[2], (*claim.scope.metric, *QUALITY))
    }
    sound = {
        (*cell[:3], *where)
        for (cell, *where), row in worst.items()
        if not row["at_chance"] and not tables.cells.get(cell, {"pruned": True})["pruned"]
    }
    for (cell, *where), row in worst.items():
        if _is_side(claim, "a", tables.cells.get(cell)):
            low = row["at_chance"]
            undecided = low and (*cell[:3], *where) not in sound
            shown = {name: row[name] for name in ("value", "low", "high", "n", "seeds")}
            shown |= {"b": f"chance ({float(row['chance']):g})", "effect": "score"}
            test = {"support": -1.0 if low else 1.0, "p": 1.0 if undecided else 0.0}
            note = "the dense model is at chance too" if undecided else ""
            yield _place(cell, *where) | shown | test | {"note": note}


def _height(row: Mapping[str, Any]) -> tuple[bool, float]:
    """Return a seed's rank, the worst lowest: scores at chance are below all others."""
    return not row["at_chance"], row["value"] * (1 if row["higher_is_better"] else -1)


KINDS = {kind.__name__: kind for kind in (measure, sensitivity, chance)}
KINDS |= {"better": scores, "equivalent": scores}
