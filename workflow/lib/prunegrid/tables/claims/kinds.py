"""The kinds of tests that conclusions are made of: each returns every comparison that it finds.

A function takes a conclusion's settings, the metrics to look at and the finished tables; how
sides are chosen and what their errors are stands in `prunegrid.tables.claims.sides`. Measured
times have no error: what lies within a `tolerance` of the bound decides nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import pandas

from prunegrid.tables.claims.evidence import Comparison, p_value, scaled
from prunegrid.tables.claims.sides import fits, pairs, side
from prunegrid.tables.claims.table_reader import Finished, cell_key, chosen, named


def pair(settings: Mapping, metrics: Sequence[str], tables: Finished) -> list[Comparison]:
    """Side a is better than b: by more than `margin` (differences) or `factor` (perplexities)."""
    return [
        _against(found, _bound(settings, found["effect"]), tables)
        for found in pairs(settings, metrics, tables)
    ]


def same(settings: Mapping, metrics: Sequence[str], tables: Finished) -> list[Comparison]:
    """Sides a and b differ by less than `margin` (differences) or `factor` (perplexities)."""
    made = []
    for found in pairs(settings, metrics, tables):
        support = _bound(settings, found["effect"]) - abs(found["better"])
        made.append(_comparison(found, support, p_value(support, found["error"])))
    return made


def measure(settings: Mapping, metrics: Sequence[str], tables: Finished) -> list[Comparison]:
    """A column of the table, a's median over seeds over b's, is `at_most` or `at_least` so much."""
    column, slack = settings["column"], math.log1p(settings["tolerance"])
    if column not in tables.wide:
        return []
    rows = tables.wide.assign(_key=[cell_key(row) for row in tables.wide.to_dict("records")])
    rows[column] = _believable(rows, column)
    known = rows.dropna(subset=[column]).groupby("_key", sort=False)[column]
    medians, seeds = known.median().astype(float), known.size()
    made = []
    for a, b in itertools.permutations(medians.index, 2):
        if a[:3] == b[:3] and fits(settings, tables, a, b) and min(medians[a], medians[b]) > 0:
            ratio = medians[a] / medians[b]
            support = (
                math.log(settings["at_most"] / ratio)
                if "at_most" in settings
                else math.log(ratio / settings["at_least"])
            )
            made.append(
                Comparison(
                    study=a[0],
                    models=(a[1],),
                    dataset=a[2],
                    split="",
                    metric=column,
                    a=a[3],
                    b=b[3],
                    effect="ratio",
                    value=ratio,
                    low=None,
                    high=None,
                    support=support,
                    p=0.0 if abs(support) > slack else 1.0,
                    seeds=int(min(seeds[a], seeds[b])),
                )
            )
    return made


def _believable(rows: pandas.DataFrame, column: str) -> pandas.Series:
    """Return a column without the speeds of timings that something disturbed.

    The untouched model, where it was timed, is once as fast as itself.
    """
    values = rows[column]
    if not column.endswith("_speed_vs_dense"):
        return values
    plain = (rows["method"] == "dense") & (rows["strategy"] == "none")
    values = values.mask(plain & rows["turn_seconds"].notna(), 1.0)
    return values.mask(rows["speed_disturbed"].notna())


def both(settings: Mapping, metrics: Sequence[str], tables: Finished) -> list[Comparison]:
    """The side that has more of the metric `more` is also the better one by another metric."""
    more = {
        (f["key_a"], f["key_b"], f["split"]): f
        for f in pairs(settings, (settings["more"],), tables, directed=False)
    }
    made = []
    for found in pairs(settings, metrics, tables):
        first = more.get((found["key_a"], found["key_b"], found["split"]))
        if first is not None and first["raw"] > 0:
            comparison = _against(found, 0.0, tables)
            p = max(comparison.p, p_value(first["raw"], first["error"]))
            made.append(_comparison(found, comparison.support, p, comparison.note))
    return made


def sensitivity(settings: Mapping, metrics: Sequence[str], tables: Finished) -> list[Comparison]:
    """What a loses against b differs: more in the smaller of two models, or between two tasks.

    `across: model` compares models on one task; `across: task` compares tasks of one model (splits
    of data sets, or texts of perplexities), and claims a difference of more than `margin`. A loss
    is relative: of a perplexity the logarithm of the ratio, else the share of b's score.
    """
    losses: dict[tuple, list[dict]] = {}
    for found in pairs(settings, metrics, tables):
        loss, error = -found["better"], found["error"]
        if found["effect"] == "difference":
            if not found["value_b"]:
                continue
            loss, error = loss / found["value_b"], error / found["value_b"]
        found |= {"loss": loss, "loss_error": error}
        place = (found["study"], found["dataset"], found["split"])
        rest = place if settings["across"] == "model" else (found["model"],)
        sides = (found["key_a"][3], found["key_b"][3])
        losses.setdefault((*rest, found["metric"], *sides), []).append(found)
    made = []
    for one, two in (p for some in losses.values() for p in itertools.combinations(some, 2)):
        made += _sensitivities(settings, tables, one, two)
    return made


def _sensitivities(
    settings: Mapping, tables: Finished, one: dict, two: dict
) -> Iterator[Comparison]:
    """Yield the comparison of two losses, if their models have two sizes or their tasks are two."""
    if settings["across"] == "model":
        sizes = [tables.cells[f["key_a"]]["parameters"] for f in (one, two)]
        if sizes[0] == sizes[1]:
            return
        one, two = (one, two) if sizes[0] < sizes[1] else (two, one)
    elif _task(one) == _task(two):
        return
    else:
        one, two = sorted((one, two), key=_task)
    difference = one["loss"] - two["loss"]
    error = math.hypot(one["loss_error"], two["loss_error"])
    support, models = difference, (one["model"], two["model"])
    titles = [f"{f['model']}: {f['key_a'][3]}" for f in (one, two)]
    if settings["across"] == "task":
        support, models = abs(difference) - settings["margin"], (one["model"],)
        titles = [f"{f['dataset']} {f['split']}: {f['key_a'][3]}" for f in (one, two)]
    yield Comparison(
        study=one["study"],
        models=models,
        dataset=one["dataset"],
        split=one["split"],
        metric=one["metric"],
        a=titles[0],
        b=titles[1],
        effect="difference of relative losses",
        **scaled("difference", difference, error),
        support=support,
        p=p_value(support, error),
        n=min(one["n"], two["n"]),
        seeds=min(one["seeds"], two["seeds"]),
    )


def _task(found: Mapping) -> tuple[str, ...]:
    """Return what a pair was scored on; what a cell was tuned on makes no other text of one."""
    if found["effect"] == "ratio":
        return (found["split"],)
    return (found["dataset"], found["split"])


def chance(settings: Mapping, metrics: Sequence[str], tables: Finished) -> list[Comparison]:
    """Side a scores above chance; where the dense model does and a does not, it was lost.

    Every seed must be above it: value, interval and items shown are those of the one seed that
    decides, which is one at chance, or else the worst.
    """
    rows = tables.long[tables.long["chance"].notna() & tables.long["at_chance"].notna()]
    groups: dict[tuple, list[dict]] = {}
    for row in rows.to_dict("records"):
        if named(row["metric"], metrics):
            groups.setdefault((*cell_key(row), row["split"], row["metric"]), []).append(row)
    made = []
    for (*key, split, metric), seeds in groups.items():
        if not chosen(tables.cells.get(tuple(key)), side(settings, "a")):
            continue
        worst = min(seeds, key=_height)
        low = worst["at_chance"]
        sound = any(
            not any(row["at_chance"] for row in some)
            for (*other, where, what), some in groups.items()
            if (where, what) == (split, metric)
            and other[:3] == key[:3]
            and chosen(tables.cells.get(tuple(other)), {"pruned": False})
        )
        made.append(
            Comparison(
                study=key[0],
                models=(key[1],),
                dataset=key[2],
                split=split,
                metric=metric,
                a=key[3],
                b=f"chance ({float(worst['chance']):g})",
                effect="score",
                value=float(worst["value"]),
                low=None if pandas.isna(worst["low"]) else float(worst["low"]),
                high=None if pandas.isna(worst["high"]) else float(worst["high"]),
                support=-1.0 if low else 1.0,
                p=1.0 if low and not sound else 0.0,
                n=int(worst["n"]),
                seeds=len(seeds),
                note="the dense model is at chance too" if low and not sound else "",
            )
        )
    return made


def _height(row: Mapping) -> tuple[bool, float]:
    """Return by what seeds are ranked, the worst lowest: what is at chance is below all else."""
    return not row["at_chance"], float(row["value"]) * (1 if row["higher_is_better"] else -1)


def _bound(settings: Mapping, effect: str) -> float:
    if effect == "ratio":
        return math.log(settings.get("factor", 1.0))
    return settings.get("margin", 0.0)


def _against(found: Mapping, bound: float, tables: Finished) -> Comparison:
    """Return the comparison "a is better than b by more than the bound"."""
    support, note = found["better"] - bound, ""
    p = p_value(support, found["error"])
    winner = found["key_a" if found["better"] > 0 else "key_b"]
    if (winner, found["split"], found["metric"]) in tables.low:
        p, note = 1.0, "the better side is at chance"
    return _comparison(found, support, p, note)


def _comparison(found: Mapping, support: float, p: float, note: str = "") -> Comparison:
    return Comparison(
        study=found["study"],
        models=(found["model"],),
        dataset=found["dataset"],
        split=found["split"],
        metric=found["metric"],
        a=found["key_a"][3],
        b=found["key_b"][3],
        effect=found["effect"],
        **scaled(found["effect"], found["raw"], found["error"]),
        support=support,
        p=p,
        n=found["n"],
        seeds=found["seeds"],
        note=note,
    )


KINDS: dict[str, Callable[[Mapping, Sequence[str], Finished], list[Comparison]]] = {
    kind.__name__: kind for kind in (pair, same, measure, both, sensitivity, chance)
}
