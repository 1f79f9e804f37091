"""Sides of a conclusion found among the pairs of finished tables, with effects and errors.

Sides are chosen by the columns of a cell (and pruned, tuned, iterative); what a conclusion does not
name is plain: pruned in one round, uniformly, sequentially, without an update beside the method's
own. The two must agree in the columns of `match`.

The error of a pair is that of its bootstrap interval over items and that of the mean over seeds,
both as if normal (Altman and Bland 2011, for the former), added as independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas

from prunegrid.tables.claims.evidence import Z
from prunegrid.tables.claims.table_reader import Finished, chosen, named

PLAIN: dict[str, Any] = {
    "update": None,
    "allocation": ("uniform", None),
    "propagation": ("sequential", None),
    "iterative": False,
}


def side(settings: Mapping, name: str) -> dict[str, Any]:
    """Return what a side must be: as named, and plain in all else."""
    named_columns = {*settings.get("a", {}), *settings.get("b", {}), *settings.get("match", ())}
    plain = PLAIN if settings.get("plain", True) else {}
    return {k: v for k, v in plain.items() if k not in named_columns} | settings.get(name, {})


def fits(settings: Mapping, tables: Finished, a: tuple, b: tuple) -> bool:
    one, two = tables.cells.get(a), tables.cells.get(b)
    return (
        one is not None
        and two is not None
        and chosen(one, side(settings, "a"))
        and chosen(two, side(settings, "b"))
        and all(one.get(name) == two.get(name) for name in settings.get("match", ()))
    )


def pairs(
    settings: Mapping, metrics: Sequence[str], tables: Finished, directed: bool = True
) -> Iterator[dict[str, Any]]:
    """Yield the pairs that fit, each as {…, raw, better, error}, a and b as the settings have them.

    `raw` is the effect of a against b (of a ratio the logarithm), `better` the same with the sign
    of "a is better"; pairs of a metric without direction only where `directed` is False.
    """
    rows = tables.pairs[tables.pairs["low"].notna() & (tables.pairs["value_b"].notna())]
    for row in rows.to_dict("records"):
        if not named(row["metric"], metrics):
            continue
        upwards = tables.directions.get((row["study"], row["split"], row["metric"]))
        if directed and upwards is None:
            continue
        place = (row["study"], row["model"], row["dataset"])
        keys = ((*place, row["a"]), (*place, row["b"]))
        for turn, (a, b) in ((1, keys), (-1, keys[::-1])):
            if fits(settings, tables, a, b):
                yield _found(row, turn, a, b, bool(upwards))


def _found(row: Mapping, turn: int, a: tuple, b: tuple, upwards: bool) -> dict[str, Any]:
    ratio = row["effect"] == "ratio"
    plain = math.log if ratio else float
    raw = turn * plain(row["value"])
    error = abs(plain(row["high"]) - plain(row["low"])) / (2 * Z)
    for side in ("a", "b"):
        if row[f"seeds_{side}"] > 1 and not pandas.isna(row[f"spread_{side}"]):
            spread = float(row[f"spread_{side}"]) / math.sqrt(row[f"seeds_{side}"])
            error = math.hypot(error, spread / row[f"value_{side}"] if ratio else spread)
    return {
        **{name: row[name] for name in ("study", "model", "dataset", "split", "metric", "effect")},
        "key_a": a,
        "key_b": b,
        "value_b": float(row["value_b" if turn == 1 else "value_a"]),
        "raw": raw,
        "better": raw if upwards else -raw,
        "error": error,
        "n": int(row["n"]),
        "seeds": int(min(row["seeds_a"], row["seeds_b"])),
    }
