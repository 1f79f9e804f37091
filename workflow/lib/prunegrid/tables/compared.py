"""What a study declares beforehand, for people: contrasts with their verdicts, known values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas

from prunegrid.tables.markdown import number, table


def contrasts_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a row for every declared contrast; columns that none fills are left out."""
    lines = []
    for row in rows:
        form = ".4f"
        seeds = [
            "" if row[f"spread_{side}"] is None else f"{row[f'spread_{side}']:.3g}" for side in "ab"
        ]
        named = [row["split"], row["metric"]]
        line = {
            "contrast": row["contrast"],
            "a": row["a"] or "",
            "b": row["b"] or "",
            "metric": " ".join(part for part in named if part),
            "n": "" if row["n"] is None else row["n"],
            "effect": row["effect"] or "",
            "value": number(row["value"], form),
            "95% interval": ""
            if row["low"] is None
            else f"{row['low']:{form}} … {row['high']:{form}}",
            "standardized": number(row["standardized"], ".2f"),
            "detectable": number(row["detectable"], form),
            "p (Holm)": number(row["p_holm"], ".4f"),
            "margin": number(row["margin"], "g"),
            "± seeds a, b": ", ".join(seed for seed in seeds if seed),
            "verdict": row["verdict"] if row["reason"] is None else f"— ({row['reason']})",
        }
        if row["verdict"] == "worse" and row["non_inferior"]:
            line["verdict"] = "worse, by less than the margin"
        if row["precision"]:
            line["verdict"] += f" (precision differs: {row['precision']})"
        lines.append(line)
    frame = pandas.DataFrame(lines)
    return table(frame.drop(columns=[c for c in frame if (frame[c].astype(str) == "").all()]))


def tested(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what the contrasts' numbers are, and what their n could have seen."""
    tests = len(rows) + sum(row["margin"] is not None for row in rows)
    seen = []
    for row in (row for row in rows if row["n"] is not None):
        said = "could not have shown any"
        if row["detectable"] is not None:
            said = f"would have shown a {row['effect']} of {row['detectable']:.3f}"
        seen.append(f"{row['contrast']}: n = {row['n']} {said}")
    text = (
        f"Verdicts are on a, from paired sign flips over items, Holm's correction over {tests} "
        "declared test(s), 5% two-sided; intervals are bootstrapped over items (other documents, "
        "not other seeds: the spread over seeds stands beside them)."
    )
    if seen:
        text += f" Smallest effects found with a power of 80%: {'; '.join(seen)}."
    return text


def expected_table(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return a row for every known value."""
    lines = [
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
    return table(pandas.DataFrame(lines))


def published_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a line for every row that others have published; what they do not say is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [
        {n: "" if row.get(n) is None else str(row[n]).replace("|", "\\|") for n in names}
        for row in rows
    ]
    return table(pandas.DataFrame(lines, columns=names))


CLIFFS_ARE = (
    "Sparsities of a line are tested in rising order, on the same items as dense, one-sided at "
    "2.5% each, up to the first that fails (a fixed order needs no correction within a line; the "
    "lines are families of their own). Margins were set in the config: a perplexity's is a share "
    "of dense's. `fails` is the first sparsity that is not held, with its effect."
)


def cliffs_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a row for every line and score: its cliff, and the sparsity at which it fails."""
    lines: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("model", "dataset", "method", "finetune", "split"))
        lines.setdefault((*key, row["metric"] or ""), []).append(row)
    made = []
    for found in lines.values():
        cliff = next((row for row in found if row["cliff"]), None)
        failed = next((row for row in found if not row["held"]), None)
        shown = found[0]
        line = {name: shown[name] for name in ("model", "method", "finetune")}
        line["score"] = " ".join(filter(None, (shown["split"], shown["metric"])))
        line |= {"n": "" if shown["n"] is None else shown["n"], "margin": f"{shown['margin']:g}"}
        line["dense"] = number(shown["score_dense"], ".4g")
        line["cliff"] = "none" if cliff is None else f"{cliff['sparsity_target']:g}"
        line["fails"] = ""
        if failed is not None:
            line["fails"] = f"{failed['sparsity_target']:g}: {_failed(failed)}"
        made.append(line)
    return table(pandas.DataFrame(made))


def _failed(row: Mapping[str, Any]) -> str:
    """Return why a sparsity is not held."""
    if row["reason"]:
        return str(row["reason"])
    if row["sparsity_target"] == 0:
        return "dense is at chance"
    told = f"{row['effect']} {row['value']:.3f}"
    told += "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
    return told + (", at chance" if row["at_chance"] else "")
