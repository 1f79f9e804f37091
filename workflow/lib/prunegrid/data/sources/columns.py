"""From rows as a source has them to rows as every later step reads them: id, document, summary.

A column is named by its own name or by a path of names with dots into nested ones
(`sentences.abstract`). Its value is text, or a list of texts, which are joined with a space. Where
several columns are named, their texts are joined with a line break.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prunegrid.common.errors import PrunegridError, nearest

TARGETS = {"summaries": ("document", "summary"), "text": ("text",)}


def convert(
    rows: Iterable[Mapping[str, Any]],
    kind: str,
    columns: Mapping[str, str | list[str]],
    prefix: str,
    start: int,
    where: str,
) -> list[dict[str, str]]:
    """Return rows of {id, document, summary}, or {id, text} for the kind "text".

    Without an `id` column a row's id is `<split of the source>:<its number there>`, so that it is
    the same however the split is sliced.

    Args:
        rows: as the source has them.
        kind: "summaries" or "text".
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
        named = columns.get("id")
        identity = text_of(row, named, place) if named else f"{prefix}:{number}"
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
    return "\n".join(one_text(row, name, where) for name in names)


def one_text(row: Mapping[str, Any], name: str, where: str) -> str:
    """Return the text of one column."""
    value = reach(row, name, where)
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return " ".join(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise PrunegridError(
        f"the column {name!r} holds {'nothing' if value is None else type(value).__name__}",
        where=where,
        expected="text or a list of texts"
        + (f" (inside of it: {', '.join(map(str, value))})" if isinstance(value, dict) else ""),
    )


def reach(row: Mapping[str, Any], name: str, where: str) -> Any:
    """Return the value of a column, following the dots of its name into nested ones."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise PrunegridError(
                f"there is no column {name!r}", where=where, remedy=nearest(name, paths(row))
            )
        value = value[part]
    return value


def paths(row: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the names of all columns, nested ones with dots."""
    found = []
    for key, value in row.items():
        found += paths(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [prefix + key]
    return found
