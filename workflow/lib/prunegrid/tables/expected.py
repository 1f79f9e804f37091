"""Measured values compared with those that a study's cells are known to have (published ones)."""

from __future__ import annotations

from typing import Any

import pandas

from prunegrid.common.errors import nearest
from prunegrid.tables.schema import Plan


def compare(plan: Plan, wide: pandas.DataFrame) -> list[dict[str, Any]]:
    """Return a row for every expected value: what was expected, found, how far off, and a fault.

    The value found is the mean over the cells that match (seeds); `fault` is None where it lies
    within the share `within` of the one expected.
    """
    rows = []
    for entry in plan["expected"]:
        column, found, fault = entry["column"], None, None
        chosen = wide[wide["status"] == "ok"]
        for key, value in entry["cells"].items():
            chosen = chosen[chosen[key].isin(value if isinstance(value, list) else [value])]
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
        rows.append(row | {"found": found, "cells_found": len(chosen), "fault": fault})
    return rows
