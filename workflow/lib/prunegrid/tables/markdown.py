"""Tables and numbers in Markdown."""

from __future__ import annotations

from typing import Any

import pandas

from prunegrid.tables.schema import Row


def table(frame: pandas.DataFrame) -> str:
    """Return a frame as a Markdown table, its texts as they are."""
    texts = frame.astype(object).map(_text)
    return texts.to_markdown(index=False, tablefmt="github", disable_numparse=True)


def _text(value: Any) -> Any:
    """Return a cell's text: "" for none, and a whole number as one, which pandas makes a float."""
    if pandas.isna(value):
        return ""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def filled(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return a frame without the columns whose texts are all empty."""
    return frame.drop(columns=[name for name in frame if (frame[name].astype(str) == "").all()])


def number(value: Any, form: str, scale: float = 1.0) -> str:
    """Return a number in a form; "" for none."""
    return "" if value is None or pandas.isna(value) else format(value * scale, form)


def ratio(row: Row, name: str) -> str:
    """Return the ratio in a column with its interval, if it has one."""
    low, high = (number(row[f"{name}_{end}"], ".2f") for end in ("low", "high"))
    return number(row[name], ".2f") + (f" ({low} to {high})" if low else "")
