"""Extractive fragments: the words that a text copies from its source (Grusky et al., 2018).

"Newsroom: A dataset of 1.3 million summaries with diverse extractive strategies", arXiv:1804.11283,
figure 3: from left to right, at each word of the text the longest run that also stands in the
source is a fragment, and the search goes on behind it; a word that stands nowhere there is passed
over. Of runs of equal length the first of the source is taken.

Deviation: words are `text_analysis.words` (case-folded, no punctuation); the paper's tokens come
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
    copied, start = [], 0
    while start < len(text):
        best = Fragment(start, -1, 0)
        for place in places.get(text[start], ()):
            length = _shared(text, start, source, place, best.length)
            if length > best.length:
                best = Fragment(start, place, length)
        if best.length:
            copied.append(best)
        start += max(best.length, 1)
    return copied


def _shared(text: Sequence[str], start: int, source: Sequence[str], place: int, least: int) -> int:
    """Return how many words agree from two places on; 0 where no more than `least` can."""
    length, limit = 0, min(len(text) - start, len(source) - place)
    if least >= limit or (least and text[start + least] != source[place + least]):
        return 0
    while length < limit and text[start + length] == source[place + length]:
        length += 1
    return length


def coverage(copied: Sequence[Fragment], size: int) -> float:
    """Return the share of a text's `size` words that lie in fragments."""
    return sum(fragment.length for fragment in copied) / size


def density(copied: Sequence[Fragment], size: int) -> float:
    """Return the mean over a text's `size` words of the length of the fragment that each is in."""
    return sum(fragment.length**2 for fragment in copied) / size
