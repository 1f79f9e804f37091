"""Tables and numbers in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas
from tabulate import tabulate


def table(frame: pandas.DataFrame) -> str:
    """Return a frame as a Markdown table, its texts as they are."""
    return tabulate(
        frame, headers="keys", tablefmt="github", showindex=False, disable_numparse=True
    )


def number(value: Any, form: str, scale: float = 1.0) -> str:
    """Return a number in a form; "" for none."""
    return "" if value is None or pandas.isna(value) else format(value * scale, form)


def ratio(row: Mapping[str, Any], name: str) -> str:
    """Return a ratio with its interval, where it has one."""
    low, high = (number(row[f"{name}_{end}"], ".2f") for end in ("low", "high"))
    return number(row[name], ".2f") + (f" ({low} to {high})" if low else "")
