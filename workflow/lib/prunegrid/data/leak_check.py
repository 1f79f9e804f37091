"""Leaks: training rows that are rows of an evaluated split, by id or by normalised text.

Texts are compared whole: letters and digits of any script, case-folded, in Unicode's NFKC, with
single spaces. A row that shares a mere passage with an evaluated one is not found.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from prunegrid.data.sources.columns import text_of

_OTHER = re.compile(r"[\W_]+")


def fingerprints(texts: Iterable[str]) -> Counter[bytes]:
    """Return {digest of a normalised text: characters of all that have it}, without blank ones."""
    sizes: Counter[bytes] = Counter()
    for text in map(normalised, texts):
        if text:
            sizes[hashlib.blake2b(text.encode(), digest_size=16).digest()] += len(text)
    return sizes


def same_texts(texts: Mapping[bytes, int], others: Collection[bytes]) -> dict[bytes, int]:
    """Return those fingerprints of texts that other texts have too, with their characters."""
    return {digest: size for digest, size in texts.items() if digest in others}


def normalised(text: str) -> str:
    """Return a text without case, punctuation and spacing."""
    return _OTHER.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


class Known:
    """Evaluated rows: their ids by source, and their normalised texts.

    The `settings` of rows are `of` (their source), `id` and `text` (columns; `id` may be None).
    """

    def __init__(self) -> None:
        self.ids: set[tuple[str, str]] = set()
        self.texts: set[str] = set()

    def add(
        self, rows: Iterable[Mapping[str, Any]], settings: Mapping[str, Any], where: str
    ) -> int:
        """Add the rows of a split; return how many have a text."""
        count = 0
        for row in rows:
            if settings["id"] is not None:
                self.ids.add((settings["of"], text_of(row, settings["id"], where)))
            text = normalised(text_of(row, settings["text"], where))
            if text:
                self.texts.add(text)
                count += 1
        return count

    def holds(self, row: Mapping[str, Any], settings: Mapping[str, Any], where: str) -> str | None:
        """Return "id" or "text", by which the row is known to be evaluated, or None."""
        by_id = settings["id"] is not None
        if by_id and (settings["of"], text_of(row, settings["id"], where)) in self.ids:
            return "id"
        return "text" if normalised(text_of(row, settings["text"], where)) in self.texts else None
