"""Items of a classification: of each row a text, or a pair of texts, and its label.

Templates are Jinja's, in its sandbox, over the columns of a row: `{{sentence}}`, `{{label}}`; a
name that the row lacks is an error. A profile may make several items of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from prunegrid.common.errors import PrunegridError, nearest


@dataclass(frozen=True)
class Item:
    """One item.

    Attributes:
        id: number of its row, and of the template that made it.
        text: to be classified.
        pair: the second text; None without.
        label: its class, as text.
    """

    id: str
    text: str
    pair: str | None
    label: str


def read_items(
    data: Path, split: str, limit: int | None, templates: Sequence[Mapping[str, Any]], where: str
) -> list[Item]:
    """Return the items of the first `limit` rows of a split.

    Args:
        data: an artifact of the stage `rows`.
        templates: {text, pair, label}; each makes an item of every row.
        where: label for errors.

    Raises:
        PrunegridError: the split is missing or empty, a template is malformed, or a row does not
            fill it.
    """
    path = Path(data) / f"{split}.parquet"
    if not path.exists():
        known = nearest(split, (p.stem for p in Path(data).glob("*.parquet")))
        raise PrunegridError(f"the data set has no split {split!r}", where=where, remedy=known)
    # `read_table` would import pyarrow's datasets and pandas, which nothing here needs.
    with pq.ParquetFile(path) as file:
        rows = file.read().to_pylist()[:limit]
    if not rows:
        raise PrunegridError(f"the split {split!r} has no rows", where=where)
    made = [_compiled(template, where) for template in templates]
    return [
        Item(f"{split}:{number}.{kind}", **_filled(parts, row, f"{split}:{number}", where))
        for number, row in enumerate(rows)
        for kind, parts in enumerate(made)
    ]


def _compiled(template: Mapping[str, Any], where: str) -> dict[str, Any]:
    language = SandboxedEnvironment(undefined=StrictUndefined)
    try:
        return {
            name: None if text is None else language.from_string(text)
            for name, text in template.items()
        }
    except TemplateError as error:
        raise PrunegridError(f"a template is malformed ({error})", where=where) from error


def _filled(parts: Mapping[str, Any], row: Mapping[str, Any], label: str, where: str) -> dict:
    """Return {text, pair, label} of a row."""
    try:
        made = {n: None if part is None else part.render(row).strip() for n, part in parts.items()}
    except (TemplateError, TypeError, ValueError, LookupError) as error:
        raise PrunegridError(
            f"row {label} does not fill a template ({error})",
            where=where,
            expected="Jinja over the row's columns, such as {{sentence}}",
        ) from error
    empty = [name for name, text in made.items() if text == ""]
    if empty:
        raise PrunegridError(f"the {empty[0]} of row {label} is empty", where=where)
    return made
