"""Repetition within a sequence of words."""

from __future__ import annotations

import zlib
from collections.abc import Sequence


def repeated_share(words: Sequence[str], size: int) -> float | None:
    """Return the share of `size`-grams that occurred before, in [0, 1); None where there is none.

    It is 1 - (distinct n-grams / n-grams): "seq-rep-n" of Welleck et al. (2020), "Neural text
    generation with unlikelihood training", on words instead of tokens.
    """
    grams = list(zip(*(words[start:] for start in range(size)), strict=False))
    return (len(grams) - len(set(grams))) / len(grams) if grams else None


def longest_repeat(words: Sequence[str]) -> int:
    """Return the words of the longest span that stands at two places, which may overlap.

    A loop of p words through a text of n has n - p; a text of distinct words has 0.
    """
    # A span that stands at two places holds shorter ones that do: the length can be bisected.
    least, most = 0, max(len(words) - 1, 0)
    while least < most:
        size = (least + most + 1) // 2
        if _occurs_twice(words, size):
            least = size
        else:
            most = size - 1
    return least


def _occurs_twice(words: Sequence[str], size: int) -> bool:
    spans = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    return len(set(spans)) < len(spans)


def compression_ratio(text: str) -> float | None:
    """Return UTF-8 bytes of a text / bytes after zlib at its default level; None without text.

    Short texts lie below 1, since zlib's own frame counts; English prose of 60 to 200 words lies
    between 1.5 and 2, a sentence said three times near 4.
    """
    body = text.strip().encode("utf-8", "surrogatepass")
    return len(body) / len(zlib.compress(body)) if body else None
