"""The sentences of the document that together come closest to the reference: an oracle of extracts.

Sentences are added one at a time, each time the one that raises ROUGE-1 F + ROUGE-2 F against the
reference the most (the first of equals), until none raises it (Liu and Lapata, 2019, "Text
summarization with pretrained encoders"; Nallapati et al., 2017). They are put in the document's
order. Greedy search is not exact: a better set can exist, but few extracts beat it.

Deviations: words are those of `reading.words` (no stemming), bigrams do not cross sentences, and no
number of sentences is the most unless `sentences` says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation.text_analysis.words import split_sentences, words

ROLE = "oracle"
SETTINGS = {"sentences": None}


def predict(rows: pd.DataFrame, settings: Mapping[str, Any], seed: int | None) -> list[str]:
    """Return the chosen sentences of each document, joined by line breaks.

    Args:
        rows: columns document, summary (str).
        settings: {"sentences": the most to take; None: as many as help}.
        seed: not used: nothing is drawn.

    Raises:
        PrunegridError: sentences is not a whole number of at least 1.
    """
    most = settings["sentences"]
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise PrunegridError(
            f"sentences is {most!r}",
            where="baseline greedy_extract",
            expected="a whole number of at least 1",
        )
    texts = []
    for document, summary in zip(rows["document"], rows["summary"], strict=True):
        sentences = split_sentences(document)
        chosen = choose([_grams(s) for s in sentences], _reference_grams(summary), most)
        texts.append("\n".join(sentences[i] for i in sorted(chosen)))
    return texts


def choose(
    sentences: list[tuple[Counter, Counter]], reference: tuple[Counter, Counter], most: int | None
) -> list[int]:
    """Return the numbers of the sentences that are taken, in the order of choice.

    Args:
        sentences: each one's word and bigram counts.
        reference: the reference's.
        most: how many to take; None for as many as raise the score.
    """
    chosen: list[int] = []
    taken, best = (Counter(), Counter()), 0.0
    while most is None or len(chosen) < most:
        scored = [
            (_score(taken, sentence, reference), -i)
            for i, sentence in enumerate(sentences)
            if i not in chosen
        ]
        score, place = max(scored, default=(0.0, 0))
        if score <= best:
            break
        best = score
        chosen.append(-place)
        taken = tuple(a + b for a, b in zip(taken, sentences[-place], strict=True))
    return chosen


def _grams(sentence: str) -> tuple[Counter, Counter]:
    found = words(sentence)
    return Counter(found), Counter(zip(found, found[1:], strict=False))


def _reference_grams(summary: str) -> tuple[Counter, Counter]:
    parts = [_grams(sentence) for sentence in split_sentences(summary)]
    return sum((p[0] for p in parts), Counter()), sum((p[1] for p in parts), Counter())


def _score(taken: tuple, more: tuple, reference: tuple) -> float:
    """Return ROUGE-1 F + ROUGE-2 F of what is taken and one sentence more."""
    total = 0.0
    for have, new, wanted in zip(taken, more, reference, strict=True):
        hits = sum(min(have[gram] + new[gram], count) for gram, count in wanted.items())
        size = have.total() + new.total() + wanted.total()
        total += 2 * hits / size if size else 0.0
    return total
