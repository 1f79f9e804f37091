"""Conversion of a source's rows to those that later steps read: id, document, summary.

A column's name may lead into nested ones by dots (`sentences.abstract`), unless a column has that
very name. Its value is text, or a
list of texts, which a space joins. A line break joins the texts of several columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prunegrid.common.errors import PrunegridError, nearest

_MISSING = object()
TARGETS = {"summaries": ("document", "summary"), "text": ("text",)}


def convert(
    rows: Iterable[Mapping[str, Any]],
    kind: str,
    columns: Mapping[str, str | list[str]],
    prefix: str,
    start: int,
    where: str,
) -> list[dict[str, str]]:
    """Return rows {id, document, summary} of the kind "summaries", {id, text} of "text".

    Without an `id` column a row's id is `<split of the source>:<its number there>`, so that it is
    the same however the split is sliced.

    Args:
        columns: {target: column or columns}.
        prefix: the split of the source.
        start: the number of the first row there.
        where: label for errors.

    Raises:
        PrunegridError: a column is missing or not text, or a document or summary is empty (an
            empty `text` is kept: it is a paragraph break in many text data sets).
    """
    converted = []
    for number, row in enumerate(rows, start=start):
        place = f"{where}, row {prefix}:{number}"
        identity = f"{prefix}:{number}"
        if columns.get("id"):
            identity = text_of(row, columns["id"], place)
        result = {"id": identity}
        for target in TARGETS[kind]:
            result[target] = text_of(row, columns[target], place)
            if kind == "summaries" and not result[target].strip():
                raise PrunegridError(
                    f"the {target} of row {identity} is empty",
                    where=where,
                    remedy="take the row out of the data, or out of the split by its slice",
                )
        converted.append(result)
    return converted


def text_of(row: Mapping[str, Any], named: str | list[str], where: str) -> str:
    """Return the text of one column or of several.

    Raises:
        PrunegridError: one is missing or not text.
    """
    names = [named] if isinstance(named, str) else named
    return "\n".join(_text(reach(row, name, where), name, where) for name in names)


def _text(value: Any, name: str, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return " ".join(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    inside = f" (inside of it: {', '.join(map(str, value))})" if isinstance(value, dict) else ""
    raise PrunegridError(
        f"the column {name!r} holds {'nothing' if value is None else type(value).__name__}",
        where=where,
        expected=f"text or a list of texts{inside}",
    )


def reach(row: Mapping[str, Any], name: str, where: str) -> Any:
    """Return the value of a column; dots of its name are its own, or lead into nested ones.

    Raises:
        PrunegridError: there is none of the name.
    """
    value = _inside(row, name)
    if value is _MISSING:
        raise PrunegridError(
            f"there is no column {name!r}", where=where, remedy=nearest(name, _paths(row))
        )
    return value


def _inside(value: Any, name: str) -> Any:
    """Return what a name leads to; where both stand, a key with dots before nested ones."""
    if not isinstance(value, Mapping):
        return _MISSING
    if name in value:
        return value[name]
    dots = [place for place, letter in enumerate(name) if letter == "."]
    found = (_inside(value.get(name[:dot]), name[dot + 1 :]) for dot in reversed(dots))
    return next((each for each in found if each is not _MISSING), _MISSING)


def _paths(row: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the names of all columns, nested ones with dots."""
    names = []
    for key, value in row.items():
        names += _paths(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [prefix + key]
    return names
