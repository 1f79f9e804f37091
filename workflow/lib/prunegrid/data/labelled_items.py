"""Items of a classification: of each row a text, or a pair of texts, and its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prunegrid.data.rows import read_columns
from prunegrid.data.templates import Templates


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
    data: Path,
    split: str,
    limit: int | None,
    templates: Sequence[Mapping[str, str | None]],
    where: str,
) -> list[Item]:
    """Return the items of the first `limit` rows of a split.

    Args:
        data: an artifact of the stage `rows`.
        templates: {text, pair, label} of Jinja templates; each makes an item of every row.
        where: label for errors.

    Raises:
        PrunegridError: the split is missing or empty, a template is malformed, or a row does not
            fill it.
    """
    rows = read_columns(data, split, None, limit, where)
    makers = [Templates(texts, where) for texts in templates]
    items = []
    for number, row in enumerate(rows):
        label = f"{split}:{number}"
        for kind, maker in enumerate(makers):
            texts = maker.fill(row, label).items()
            stripped = {name: None if text is None else text.strip() for name, text in texts}
            items.append(Item(f"{label}.{kind}", **stripped))
    return items
