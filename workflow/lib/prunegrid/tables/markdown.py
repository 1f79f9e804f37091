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


def between(low: str, high: str) -> str:
    """Return the ends of an interval as texts, `0.31–0.37`; `-0.2 to 0.1` where one is negative."""
    return f"{low}{' to ' if '-' in low + high else '–'}{high}"


def kept_together(text: str) -> str:
    """Return a text whose line may not end at its spaces."""
    return text.replace(" ", "\u00a0")


def interval(value: str, low: str, high: str) -> str:
    """Return a value with its interval, `0.35 (0.31–0.37)`; the value alone without ends."""
    return f"{value} ({between(low, high)})" if low else value


def ratio(row: Row, name: str) -> str:
    """Return the ratio in a column with its interval, if it has one."""
    low, high = (number(row[f"{name}_{end}"], ".2f") for end in ("low", "high"))
    return interval(number(row[name], ".2f"), low, high)
