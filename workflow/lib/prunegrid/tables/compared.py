"""Contrasts, cliffs, known and published values of a study, as its page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas

from prunegrid.common.errors import nearest
from prunegrid.config.cells import WITHOUT
from prunegrid.tables.markdown import between, filled, interval, number, table
from prunegrid.tables.schema import Plan, Row


def contrasts_table(rows: Sequence[Row]) -> str:
    """Return a row for every declared contrast; columns that none fills are left out."""
    return table(filled(pandas.DataFrame([_contrast(row) for row in rows])))


def _contrast(row: Row) -> dict[str, Any]:
    low, high = (number(row[end], ".4f") for end in ("low", "high"))
    spreads = [number(row[f"spread_{side}"], ".3g") for side in "ab"]
    verdict = row["verdict"] if row["reason"] is None else f"— ({row['reason']})"
    if verdict == "worse" and row["non_inferior"]:
        verdict = "worse, by less than the margin"
    if row["precision"]:
        verdict += f" (precision differs: {row['precision']})"
    return {
        "contrast": row["contrast"],
        "a": row["a"] or "",
        "b": row["b"] or "",
        "metric": " ".join(filter(None, (row["split"], row["metric"]))),
        "n": "" if row["n"] is None else row["n"],
        "effect": row["effect"] or "",
        "value": number(row["value"], ".4f"),
        "95% interval": low and between(low, high),
        "standardized": number(row["standardized"], ".2f"),
        "detectable": number(row["detectable"], ".4f"),
        "p (Holm)": number(row["p_holm"], ".4f"),
        "margin": number(row["margin"], "g"),
        "± seeds a, b": ", ".join(filter(None, spreads)),
        "verdict": verdict,
    }


def tested(rows: Sequence[Row], sides: tuple[str, str] = ("a", "b")) -> str:
    """Return what the contrasts' numbers are, and what their n could have seen.

    Args:
        sides: what the two sides of a contrast are called where the text stands.
    """
    tests = len(rows) + sum(row["margin"] is not None for row in rows)
    text = (
        f"Each verdict says whether {sides[0]} is better or worse than {sides[1]} (paired "
        f"sign-flip test over items, Holm-corrected for {tests} declared test(s), two-sided 5%). "
        "Intervals are bootstrapped over items: they speak of other documents, not of other seeds. "
        "The spread over seeds stands beside them."
    )
    limits = []
    for row in (row for row in rows if row["n"] is not None):
        limit = "could not have shown any"
        if row["detectable"] is not None:
            limit = f"would have shown a {row['effect']} of {row['detectable']:.3f}"
        limits.append(f"{row['contrast']}: n = {row['n']} {limit}")
    if limits:
        text += f" Smallest effects found with a power of 80%: {'; '.join(limits)}."
    return text


def known_values(plan: Plan, wide: pandas.DataFrame) -> list[dict[str, Any]]:
    """Return a row for every expected value: what was expected, found, how far off, and a fault.

    The value found is the mean over the cells that match (seeds); `fault` is None where it lies
    within the share `within` of the one expected. `is_dense` says that the cells are the untouched
    model: its value is the anchor of the study.
    """
    rows = []
    for entry in plan["expected"]:
        column, found, fault = entry["column"], None, None
        cells = wide
        for key, value in entry["cells"].items():
            cells = cells[cells[key].isin(value if isinstance(value, list) else [value])]
        untouched = [(cells[kind] == name).all() for kind, name in WITHOUT.items()]
        chosen = cells[cells["status"] == "ok"]
        if column not in wide:
            fault = f"no column {column}; {nearest(column, wide.columns)}"
        elif chosen[column].isna().all():
            fault = "no such cell was measured"
        else:
            found = float(chosen[column].mean())
            off = found / entry["value"] - 1
            if abs(off) > entry["within"]:
                fault = f"off by {off:+.1%}, allowed ±{entry['within']:.1%}"
        row = {"cells": ", ".join(f"{k}: {v}" for k, v in entry["cells"].items())}
        row |= {"column": column, "expected": entry["value"], "source": entry["source"]}
        row |= {"found": found, "cells_found": len(chosen), "fault": fault}
        rows.append(row | {"is_dense": len(cells) > 0 and all(untouched)})
    return rows


def drift(known: Sequence[Row]) -> str | None:
    """Return in a sentence how the dense model's known values were not found; None if they were.

    Args:
        known: rows of `known_values`.
    """
    drifted = [row for row in known if row["is_dense"] and row["fault"]]
    if not drifted:
        return None
    values = "; ".join(
        f"{row['cells']}: {row['column']}, known as {row['expected']:g}, "
        f"was found as {number(row['found'], '.4g') or 'nothing'} ({row['fault']})"
        for row in drifted
    )
    return f"The dense model has drifted, so no contrast has a verdict: {values}."


def expected_rows(entries: Sequence[Row]) -> list[dict[str, str]]:
    """Return a row for every known value, as it is shown."""
    return [
        {
            "cells": entry["cells"],
            "column": entry["column"],
            "expected": f"{entry['expected']:g}",
            "found": number(entry["found"], ".2f"),
            "source": entry["source"],
            "verdict": entry["fault"] or "as expected",
        }
        for entry in entries
    ]


def expected_table(entries: Sequence[Row]) -> str:
    """Return a row for every known value, as Markdown."""
    return table(pandas.DataFrame(expected_rows(entries)))


def published_table(rows: Sequence[Row]) -> str:
    """Return a line for every row that others have published; values that it lacks are empty."""
    frame = pandas.DataFrame(rows, dtype=object)
    frame = frame.where(frame.notna(), "").astype(str)
    return table(frame.map(lambda text: text.replace("|", "\\|")))


CLIFFS_ARE = (
    "Sparsities of a line are tested in rising order, on the same items as dense, one-sided at "
    "2.5% each, up to the first that fails (a fixed order needs no correction within a line; the "
    "lines are families of their own). Margins were set in the config: a perplexity's is a share "
    "of dense's. `fails` is the first sparsity that is not held, with its effect."
)


def cliffs_table(rows: Sequence[Row]) -> str:
    """Return a row for every line and score: its cliff, and the sparsity at which it fails."""
    lines: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("model", "dataset", "method", "finetune", "split"))
        lines.setdefault((*key, row["metric"] or ""), []).append(row)
    return table(pandas.DataFrame([_line(levels) for levels in lines.values()]))


def _line(levels: Sequence[Row]) -> dict[str, Any]:
    cliff = next((row for row in levels if row["cliff"]), None)
    failed = next((row for row in levels if not row["held"]), None)
    first = levels[0]
    return {
        **{name: first[name] for name in ("model", "method", "finetune")},
        "score": " ".join(filter(None, (first["split"], first["metric"]))),
        "n": "" if first["n"] is None else first["n"],
        "margin": f"{first['margin']:g}",
        "dense": number(first["score_dense"], ".4g"),
        "cliff": "none" if cliff is None else f"{cliff['sparsity_target']:g}",
        "fails": f"{failed['sparsity_target']:g}: {_failure(failed)}" if failed else "",
    }


def _failure(row: Row) -> str:
    """Return why a sparsity is not held."""
    if row["reason"]:
        return str(row["reason"])
    if row["sparsity_target"] == 0:
        return "dense is at chance"
    text = interval(*(number(row[name], ".3f") for name in ("value", "low", "high")))
    return f"{row['effect']} {text}" + (", at chance" if row["at_chance"] else "")
