"""A table for the terminal: columns of values, fitted to a width, sorted, or written as CSV."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.tables.markdown import between

BEST, WORST = "▲", "▼"
NEAR = "≈"  # behind a score that does not rank its model
# For a terminal without Unicode.
_ASCII = {BEST: "+", WORST: "-", NEAR: "~", "–": "-", "…": "...", "§": "*"}
_STYLES = {BEST: "bold green", WORST: "red"}
NAME_WIDTH = 30  # characters of a name that is not folded
_GAP = 2  # spaces between columns
_DESCENDING = ":desc"
MAIN = 2  # scores that a narrow terminal shows before all else


@dataclass(eq=False)
class Field:
    """A column.

    Attributes:
        name: as in the files: a column of the Parquet table, or `split metric`.
        values: one a row; a null is None or NA.
        header: what stands above it; the name by default.
        texts: what is shown of the values; the values themselves by default.
        bounds: (low, high) of the values' 95% intervals, or None.
        marks: BEST, WORST or "" of each row.
        is_name: whether it says which row this is: it stands first and may be folded.
        is_telling: whether it is shown where no column is asked for.
    """

    name: str
    values: Sequence[Any]
    header: str = ""
    texts: Sequence[str] = ()
    bounds: tuple[Sequence[Any], Sequence[Any]] | None = None
    marks: Sequence[str] = ()
    is_name: bool = False
    is_telling: bool = False

    def __post_init__(self) -> None:
        """Fill in what follows from the name and the values."""
        self.header = self.header or self.name
        self.texts = self.texts or ["" if is_null(v) else shown(v) for v in self.values]
        self.marks = self.marks or [""] * len(self.values)

    @property
    def width(self) -> int:
        """Return the characters that it takes; of names at most NAME_WIDTH."""
        marked = 2 * any(self.marks)
        words = self.header.split() or [""]  # a header may be folded between its words
        longest = max([*(len(text) + marked for text in self.texts), *map(len, words)])
        return min(longest, NAME_WIDTH) if self.is_name else longest


@dataclass
class Sheet:
    """Columns of as many rows each: names, then those that say most."""

    fields: list[Field] = field(default_factory=list)

    def find(self, name: str) -> Field:
        """Return the column of a name or header.

        Raises:
            PrunegridError: there is none; the nearest is named.
        """
        for one in self.fields:
            if name in (one.name, one.header, one.name.replace(" ", "_", 1)):
                return one
        known = {one.name for one in self.fields} | {one.header for one in self.fields}
        raise PrunegridError(
            f"there is no column '{name}'",
            expected="a column of the table (docs/reference/table.md) or 'SPLIT METRIC', such as "
            + ", ".join(f"'{one.name}'" for one in self.fields if one.is_telling),
            remedy=nearest(name, known).partition("(known")[0].strip() or None,
        )

    def sort(self, name: str) -> None:
        """Sort the rows by a column, `NAME:desc` downwards; nulls are last.

        Raises:
            PrunegridError: there is no such column.
        """
        down = name.endswith(_DESCENDING)
        values = self.find(name.removesuffix(_DESCENDING)).values
        rows = range(len(values))
        there = [row for row in rows if not is_null(values[row])]
        order = sorted(there, key=lambda row: values[row], reverse=down)
        order += [row for row in rows if is_null(values[row])]
        for one in self.fields:
            one.values = [one.values[row] for row in order]
            one.texts = [one.texts[row] for row in order]
            one.marks = [one.marks[row] for row in order]
            if one.bounds is not None:
                low, high = one.bounds
                one.bounds = ([low[row] for row in order], [high[row] for row in order])

    def chosen(self, names: Sequence[str]) -> list[Field]:
        """Return the rows' names and the columns asked for; without any the telling ones.

        Raises:
            PrunegridError: there is no such column.
        """
        asked = [self.find(name) for name in names]
        others = asked or [one for one in self.fields if one.is_telling]
        rows = [one for one in self.fields if one.is_name and not any(one is o for o in others)]
        return [*rows, *others]


def fitted(fields: Sequence[Field], width: int) -> list[Field]:
    """Return the names and what else fits, in the order given; two other columns at least.

    The first MAIN scores have the first place, then the others in their order.
    """
    others = [one for one in fields if not one.is_name]
    main = [one for one in others if one.bounds is not None][:MAIN]
    chosen = [one for one in fields if one.is_name]
    room = width + _GAP - sum(one.width + _GAP for one in chosen)
    for count, one in enumerate([*main, *(one for one in others if one not in main)]):
        if one.width + _GAP <= room or count < MAIN:
            chosen.append(one)
            room -= one.width + _GAP
    return [one for one in fields if one in chosen]


def csv(fields: Sequence[Field]) -> str:
    """Return columns as CSV at full precision, a score's bounds beside it."""
    columns: dict[str, Sequence[Any]] = {}
    for one in fields:
        columns[one.name] = one.values
        if one.bounds is not None:
            columns[f"{one.name} low"], columns[f"{one.name} high"] = one.bounds
    return pandas.DataFrame(columns).to_csv(index=False, lineterminator="\n")


def is_null(value: Any) -> bool:
    """Return whether a value is None, NA or NaN."""
    return value is None or bool(pandas.isna(value))


def is_number(value: Any) -> bool:
    """Return whether a value is a number, and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """Return a value as text: numbers with four digits, whole ones with commas."""
    if not is_number(value):
        return str(value)
    whole = isinstance(value, int) or abs(value) >= 1000
    return f"{value:,.0f}" if whole else f"{value:.4g}"


def scores(values: Sequence[Any], low: Sequence[Any], high: Sequence[Any]) -> list[str]:
    """Return scores with their intervals, such as `0.345 (0.319–0.373)`, aligned at the value."""
    known = [v for v in [*values, *low, *high] if not is_null(v)]
    large = max(map(abs, known), default=0.0)
    digits = 3 if large <= 2 else 1

    def form(value: float) -> str:
        return f"{value:,.{0 if abs(value) >= 1000 else digits}f}"

    rows = [
        None if is_null(v) else (float(v), None if is_null(a) else (float(a), float(b)))
        for v, a, b in zip(values, low, high, strict=True)
    ]
    wide = max((len(form(row[0])) for row in rows if row is not None), default=0)
    texts = []
    for row in rows:
        text = "" if row is None else form(row[0]).rjust(wide)
        if row is not None and row[1] is not None:
            text += f" ({between(*map(form, row[1]))})"
        texts.append(text)
    return texts


def marks(values: Sequence[Any], higher_is_better: bool | None) -> list[str]:
    """Return BEST and WORST of the values, "" elsewhere; an end that several share has none."""
    found = [float(v) for v in values if not is_null(v) and math.isfinite(v)]
    if higher_is_better is None or len(set(found)) < 2:
        return [""] * len(values)
    top, bottom = (BEST, WORST) if higher_is_better else (WORST, BEST)
    ends = {max(found): top, min(found): bottom}
    ends = {end: sign for end, sign in ends.items() if found.count(end) == 1}
    return ["" if is_null(v) else ends.get(float(v), "") for v in values]


def table(fields: Sequence[Field], encoding: str = "utf-8", width: int = 80) -> Table:
    """Return columns as a table of rich.

    Args:
        encoding: of the terminal; other than UTF-8, its signs are ASCII.
        width: of the terminal; headers are folded where it is too narrow for them.
    """
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
    plain = not encoding.lower().startswith("utf")
    fields = [_in_ascii(one) for one in fields] if plain else fields
    whole = [max(one.width, len(one.header)) for one in fields]
    is_wide = sum(whole) + _GAP * len(whole) <= width + _GAP
    for one, full in zip(fields, whole, strict=True):
        numeric = one.bounds is None and any(is_number(v) for v in one.values)
        drawn.add_column(
            Text(one.header),
            justify="right" if numeric and not one.is_name else "left",
            overflow="fold",
            # A name, and a text of any length such as a digest, takes what is left.
            width=(full if is_wide else one.width) if numeric or one.bounds else None,
        )
    for row in zip(*map(_texts, fields), strict=True):
        drawn.add_row(*row)
    return drawn


def _texts(one: Field) -> list[Text]:
    """Return the texts of a column, each behind its mark."""
    texts = []
    for text, mark in zip(one.texts, one.marks, strict=True):
        sign = f"{mark or ' '} " if any(one.marks) else ""
        style = _STYLES.get(mark, "red" if text == "failed" else "")
        texts.append(Text(sign + text, style=style))
    return texts


def _in_ascii(one: Field) -> Field:
    return replace(one, texts=[*map(in_ascii, one.texts)], marks=[*map(in_ascii, one.marks)])


def in_ascii(text: str) -> str:
    """Return a text without the signs that a terminal without Unicode lacks."""
    for sign, ascii_sign in _ASCII.items():
        text = text.replace(sign, ascii_sign)
    return text


def console(stderr: bool = False) -> Console:
    """Return the terminal; of a pipe 100 characters wide, unless COLUMNS says otherwise."""
    found = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = 100
    return found


def draws(console: Console) -> bool:
    """Return whether lines can be drawn again in place: a terminal that moves its cursor."""
    return console.is_terminal and not console.is_dumb_terminal
