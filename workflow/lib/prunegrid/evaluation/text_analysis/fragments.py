"""Extractive fragments: the words that a text copies from its source (Grusky et al., 2018).

"Newsroom: A dataset of 1.3 million summaries with diverse extractive strategies", arXiv:1804.11283,
figure 3: from left to right, at each word of the text the longest run that also stands in the
source is a fragment, and the search goes on behind it; a word that stands nowhere there is passed
over. Of runs of equal length the first of the source is taken.

Deviation: words are `text_analysis.words` (case-folded, no punctuation); the paper's tokens come
from a tagger and count punctuation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Fragment(NamedTuple):
    """A run of words that text and source share: where it begins in each, and its length."""

    start: int
    source: int
    length: int


def fragments(text: Sequence[str], source: Sequence[str]) -> list[Fragment]:
    """Return the extractive fragments of a text's words, in the order of the text.

    It takes time by the sum of both lengths.
    """
    runs = _Runs(source)
    copied, start = [], 0
    while start < len(text):
        best = runs.longest(text, start)
        if best.length:
            copied.append(best)
        start += max(best.length, 1)
    return copied


class _Runs:
    """All runs of a source's words: its suffix automaton (Blumer et al., 1985).

    A state stands for the runs that end at the same places of the source. `steps` of a state has
    the state of these runs and a word more, `length` their longest, `shorter` the state of the
    longest of their ends that ends at further places, `end` the place behind the first.
    """

    def __init__(self, source: Sequence[str]) -> None:
        self.steps: list[dict[str, int]] = [{}]
        self.length, self.shorter, self.end = [0], [-1], [0]
        last = 0
        for place, word in enumerate(source):
            last = self._append(word, last, place + 1)

    def longest(self, text: Sequence[str], start: int) -> Fragment:
        """Return the longest run of the source that stands in a text at `start`."""
        state, stop = 0, start
        while stop < len(text) and (after := self.steps[state].get(text[stop])) is not None:
            state, stop = after, stop + 1
        length = stop - start
        return Fragment(start, self.end[state] - length if length else -1, length)

    def _append(self, word: str, last: int, end: int) -> int:
        """Add the source's next word behind the state of all of it; return that of all now."""
        whole = self._new({}, self.length[last] + 1, 0, end)
        state = last
        while state >= 0 and word not in self.steps[state]:
            self.steps[state][word] = whole
            state = self.shorter[state]
        if state < 0:
            return whole
        after = self.steps[state][word]
        if self.length[after] > self.length[state] + 1:
            # The shorter of its runs end here too: they become a state of their own.
            long, length = after, self.length[state] + 1
            after = self._new(dict(self.steps[long]), length, self.shorter[long], self.end[long])
            while state >= 0 and self.steps[state].get(word) == long:
                self.steps[state][word] = after
                state = self.shorter[state]
            self.shorter[long] = after
        self.shorter[whole] = after
        return whole

    def _new(self, steps: dict[str, int], length: int, shorter: int, end: int) -> int:
        self.steps.append(steps)
        self.length.append(length)
        self.shorter.append(shorter)
        self.end.append(end)
        return len(self.steps) - 1


def coverage(copied: Sequence[Fragment], size: int) -> float:
    """Return the share of a text's `size` words that lie in fragments."""
    return sum(fragment.length for fragment in copied) / size


def density(copied: Sequence[Fragment], size: int) -> float:
    """Return the mean over a text's `size` words of the length of the fragment that each is in."""
    return sum(fragment.length**2 for fragment in copied) / size
