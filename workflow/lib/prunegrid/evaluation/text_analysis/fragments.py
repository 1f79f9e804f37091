"""What a text copies from its source: extractive fragments (Grusky, Naaman and Artzi, 2018).

"Newsroom: A dataset of 1.3 million summaries with diverse extractive strategies", arXiv:1804.11283,
figure 3: from left to right, at each word of the text the longest run that also stands in the
source is a fragment, and the search goes on behind it; a word that stands nowhere there is passed
over. Of runs of equal length the first of the source is taken.

Deviation: words are `reading.words` (case-folded, no punctuation), where the paper's tokens come
from a tagger and count punctuation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple


class Fragment(NamedTuple):
    """A run of words that text and source share: where it begins in each, and its length."""

    start: int
    source: int
    length: int


def fragments(text: Sequence[str], source: Sequence[str]) -> list[Fragment]:
    """Return the extractive fragments of a text's words, in the order of the text."""
    places = defaultdict(list)
    for place, word in enumerate(source):
        places[word].append(place)
    found, start = [], 0
    while start < len(text):
        best = Fragment(start, -1, 0)
        for place in places.get(text[start], ()):
            length = _shared(text, start, source, place, best.length)
            if length > best.length:
                best = Fragment(start, place, length)
        if best.length:
            found.append(best)
        start += max(best.length, 1)
    return found


def _shared(text: Sequence[str], start: int, source: Sequence[str], place: int, least: int) -> int:
    """Return how many words agree from two places on; 0 where no more than `least` can."""
    if (
        least
        and text[start + least : start + least + 1] != source[place + least : place + least + 1]
    ):
        return 0
    length = 0
    limit = min(len(text) - start, len(source) - place)
    while length < limit and text[start + length] == source[place + length]:
        length += 1
    return length


def coverage(found: Sequence[Fragment], size: int) -> float:
    """Return the share of a text's `size` words that lie in fragments."""
    return sum(fragment.length for fragment in found) / size


def density(found: Sequence[Fragment], size: int) -> float:
    """Return the mean over a text's `size` words of the length of the fragment that each is in."""
    return sum(fragment.length**2 for fragment in found) / size
