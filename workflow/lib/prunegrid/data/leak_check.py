"""Which training rows are rows of an evaluated split: by id, or by their normalised text.

Texts are compared whole: letters and digits of any script, case-folded, in Unicode's NFKC, with
single spaces. A row that shares a mere passage with an evaluated one is not found.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from prunegrid.data.sources.columns import text_of

_OTHER = re.compile(r"[\W_]+")


def normalised(text: str) -> str:
    """Return a text without case, punctuation and spacing."""
    return _OTHER.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


class Known:
    """What is evaluated: ids by the source that they are of, and normalised texts of all."""

    def __init__(self) -> None:
        self.ids: dict[str, set[str]] = {}
        self.texts: set[str] = set()

    def add(
        self, rows: Iterable[Mapping[str, Any]], settings: Mapping[str, Any], where: str
    ) -> int:
        """Add the rows of a split; return how many have a text.

        Args:
            settings: `of` (the source), `id` and `text` (columns of the rows); `id` may be None.
        """
        count = 0
        for row in rows:
            if settings["id"] is not None:
                self.ids.setdefault(settings["of"], set()).add(text_of(row, settings["id"], where))
            text = normalised(text_of(row, settings["text"], where))
            if text:
                self.texts.add(text)
                count += 1
        return count

    def holds(self, row: Mapping[str, Any], settings: Mapping[str, Any], where: str) -> str | None:
        """Return by what a row is known to be evaluated: "id", "text", or None."""
        if settings["id"] is not None:
            identity = text_of(row, settings["id"], where)
            if identity in self.ids.get(settings["of"], ()):
                return "id"
        return "text" if normalised(text_of(row, settings["text"], where)) in self.texts else None
