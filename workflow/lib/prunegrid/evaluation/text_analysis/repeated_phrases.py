"""Repetition within a sequence of words."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable, Sequence


def repeated_share(words: Sequence[str], size: int) -> float | None:
    """Return the share of `size`-grams that occurred before, in [0, 1); None where there is none.

    It is 1 - (distinct n-grams / n-grams): "seq-rep-n" of Welleck et al. (2020), "Neural text
    generation with unlikelihood training", on words instead of tokens.
    """
    grams = list(zip(*(words[start:] for start in range(size)), strict=False))
    return (len(grams) - len(set(grams))) / len(grams) if grams else None


def longest_repeat(words: Sequence[str]) -> int:
    """Return the words of the longest span that stands at two places, which may overlap.

    A loop of p words through a text of n has n - p; a text of distinct words has 0. Spans of a
    length are numbered so that equal ones have one number, by the numbers of their halves (Karp,
    Miller and Rosenberg, 1972): n log n operations.
    """
    doubled = [_numbered(words)]  # spans of 1, 2, 4, … words
    while _repeats(doubled[-1]):
        half = doubled[-1]
        doubled.append(_joined(half, half, 2 ** (len(doubled) - 1)))
    # A span that stands at two places holds shorter ones that do: the length can be bisected.
    longest, spans = 0, None
    for power in reversed(range(len(doubled) - 1)):
        longer = doubled[power] if spans is None else _joined(spans, doubled[power], longest)
        if _repeats(longer):
            longest, spans = longest + 2**power, longer
    return longest


def _numbered(spans: Iterable[Hashable]) -> list[int]:
    """Return a number for each span, the same for equal ones."""
    known: dict[Hashable, int] = {}
    return [known.setdefault(span, len(known)) for span in spans]


def _joined(first: list[int], second: list[int], length: int) -> list[int]:
    """Return the numbers of spans whose first `length` words `first` numbers, the rest `second`."""
    return _numbered(zip(first, second[length:], strict=False))


def _repeats(numbers: list[int]) -> bool:
    return bool(numbers) and max(numbers) + 1 < len(numbers)


def compression_ratio(text: str) -> float | None:
    """Return UTF-8 bytes of a text / bytes after zlib at its default level; None without text.

    Short texts lie below 1, since zlib's own frame counts; English prose of 60 to 200 words lies
    between 1.5 and 2, a sentence said three times near 4.
    """
    body = text.strip().encode("utf-8", "surrogatepass")
    return len(body) / len(zlib.compress(body)) if body else None
