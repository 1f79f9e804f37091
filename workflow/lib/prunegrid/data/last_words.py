"""Passages of running text, each with its last word and three other words of it.

A passage begins with a sentence and ends with the last word of a sentence or a clause. That word
stands in the passage before, and so do three others of like kind, as often: the four options. A
model that reads has the word before it, and can choose it as well as write it. Paperno et al.
(2016, arXiv:1606.06031) ask for last words too. Theirs need not stand before, were chosen by
people, and have no options.

The commonest words of the texts are no options. Wrong options are chosen so that each of CUES tells
the right one as often as chance does.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

SHORTEST, LONGEST = 40, 100  # words before the last one
APART = 60  # words at least between the ends of two passages of a paragraph
COMMONEST = 200  # words of all texts that are no options
LETTERS, UNLIKE = 4, 4  # the least of an option; the most that two may differ in length
OPTIONS = 4
CHANCE = 1 / OPTIONS
MOST = 12  # words among which the wrong options are sought

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[^\W\d_a-z]|[\"“(])")
_END = re.compile(r"[.,;:!?)](?:\s|$)")

# What could tell the right option without reading: {name: its value of an option, from the words
# before and the counts of all words of the texts}. The largest value tells.
CUES: dict[str, Callable[[str, Sequence[str], Mapping[str, int]], int]] = {
    "long": lambda option, words, counts: len(option),
    "short": lambda option, words, counts: -len(option),
    "late": lambda option, words, counts: _latest(option, words),
    "early": lambda option, words, counts: -_latest(option, words),
    "common": lambda option, words, counts: counts[option.lower()],
    "rare": lambda option, words, counts: -counts[option.lower()],
}


def items(texts: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return rows {id, question, options, answer, length, text}, in the order of the texts.

    `length` is the number of words of the question; `text` is the passage, its last word included.
    The place of the right option goes round.

    Args:
        texts: rows {id, text}; blank lines part paragraphs.
    """
    counts = Counter(word.lower() for row in texts for word in _WORD.findall(row["text"]))
    common = {word for word, _ in counts.most_common(COMMONEST)}
    excess = dict.fromkeys(CUES, 0.0)
    rows: list[dict[str, Any]] = []
    for row in texts:
        passages = (one for block in row["text"].split("\n\n") for one in _passages(block, common))
        for number, (question, word, words) in enumerate(passages):
            among = _like(word, words, common)[:MOST]
            values = {option: _values(option, words, counts) for option in (word, *among)}
            wrong = _wrong(word, among, excess, values)
            answer = len(rows) % OPTIONS
            options = [*wrong[:answer], word, *wrong[answer:]]
            made = {"id": f"{row['id']}/{number}", "question": question, "options": options}
            made |= {"answer": answer, "length": len(words), "text": f"{question} {word}"}
            rows.append(made)
    return rows


def _passages(block: str, common: set[str]) -> list[tuple[str, str, list[str]]]:
    """Return (text before, last word, words before) of the passages of a paragraph."""
    text = " ".join(block.split())
    found = list(_WORD.finditer(text))
    begins = [0, *(match.end() for match in _SENTENCE.finditer(text))]
    firsts = [sum(word.start() < begin for word in found) for begin in begins]
    passages, ended = [], -APART
    for place, match in enumerate(found):
        word, spaced = match.group(), text[: match.start()].endswith(" ")
        fits = [i for i, first in enumerate(firsts) if SHORTEST <= place - first <= LONGEST]
        if place - ended < APART or not spaced or not fits or not _END.match(text, match.end()):
            continue
        words = [other.group() for other in found[firsts[fits[-1]] : place]]
        if word in words and len(_like(word, words, common)) >= OPTIONS - 1:
            passages.append((text[begins[fits[-1]] : match.start()].rstrip(), word, words))
            ended = place
    return passages


def _like(word: str, words: Sequence[str], common: set[str]) -> list[str]:
    """Return the words of like kind and frequency, those of the nearest length first.

    Without any if the word itself is too short or common.
    """
    if len(word) < LETTERS or word.lower() in common:
        return []
    counts = Counter(words)
    alike = [
        other
        for other in dict.fromkeys(words)
        if counts[other] == counts[word]
        and len(other) >= LETTERS
        and abs(len(other) - len(word)) <= UNLIKE
        and other[0].isupper() == word[0].isupper()
        and other.lower() not in common
        and other[:LETTERS].lower() != word[:LETTERS].lower()  # such as its plural
    ]
    return sorted(alike, key=lambda other: abs(len(other) - len(word)))


def _wrong(
    word: str, among: Sequence[str], excess: dict[str, float], values: Mapping[str, Sequence[int]]
) -> list[str]:
    """Return three wrong options by which the cues come closest to chance; count what they tell.

    Args:
        among: the words that may be options.
        excess: {cue: how often it told the right option before, beyond chance}.
        values: {option: its value by each cue}.
    """

    def told(options: Sequence[str]) -> list[float]:
        columns = zip(*(values[option] for option in (word, *options)), strict=True)
        return [
            (column[0] == max(column)) / column.count(max(column)) - CHANCE for column in columns
        ]

    def miss(options: Sequence[str]) -> float:
        return sum((a + b) ** 2 for a, b in zip(excess.values(), told(options), strict=True))

    wrong = min(itertools.combinations(among, OPTIONS - 1), key=miss)
    for cue, beyond in zip(excess, told(wrong), strict=True):
        excess[cue] += beyond
    return list(wrong)


def _values(option: str, words: Sequence[str], counts: Mapping[str, int]) -> list[int]:
    """Return the value of an option by each cue."""
    return [cue(option, words, counts) for cue in CUES.values()]


def _latest(option: str, words: Sequence[str]) -> int:
    """Return the last place of a word."""
    return len(words) - 1 - list(reversed(words)).index(option)
