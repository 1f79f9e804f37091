"""The sentences of the document that together come closest to the reference: an oracle of extracts.

Sentences are added one at a time, each time the one that raises ROUGE-1 F + ROUGE-2 F against the
reference the most (the first of equals), until none raises it (Liu and Lapata, 2019, "Text
summarization with pretrained encoders"; Nallapati et al., 2017). They are put in the document's
order. Greedy search is not exact: a better set can exist, but few extracts beat it.

Deviations: words are those of `text_analysis.words` (no stemming), bigrams do not cross sentences,
and the number of sentences has no limit unless `sentences` sets one.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pandas as pd

from prunegrid.evaluation.setting_checks import require_number
from prunegrid.evaluation.text_analysis.words import split_sentences, words

CITE = ("liu2019text", "nallapati2017summarunner")
ROLE = "oracle"
SETTINGS = {"sentences": None}
MEANINGS = {
    "sentences": "The most sentences. By default as many as help.",
}

# Counts of words and of bigrams.
Grams = tuple[Counter, Counter]


def predict(rows: pd.DataFrame, settings: dict, seed: int | None) -> list[str]:
    """Return the chosen sentences of each document, joined by line breaks."""
    limit = settings["sentences"]
    if limit is not None:
        require_number("sentences", limit, 1)
    texts = []
    for document, summary in zip(rows["document"], rows["summary"], strict=True):
        sentences = split_sentences(document)
        reference: Grams = (Counter(), Counter())
        for sentence in split_sentences(summary):
            for total, counts in zip(reference, _grams(sentence), strict=True):
                total.update(counts)
        chosen = _choose([_grams(sentence) for sentence in sentences], reference, limit)
        texts.append("\n".join(sentences[i] for i in sorted(chosen)))
    return texts


def _choose(sentences: list[Grams], reference: Grams, limit: int | None) -> list[int]:
    """Return the numbers of the sentences that are taken, in the order of choice."""
    sides = [
        _Side([grams[side] for grams in sentences], wanted) for side, wanted in enumerate(reference)
    ]
    chosen: list[int] = []
    best = 0.0
    while len(chosen) < (len(sentences) if limit is None else min(limit, len(sentences))):
        scores = sides[0].scores() + sides[1].scores()
        scores[chosen] = 0.0
        place = int(scores.argmax())  # the first of equals
        if scores[place] <= best:
            break
        best = scores[place]
        chosen.append(place)
        for side in sides:
            side.take(place)
    return chosen


class _Side:
    """ROUGE-n F of the taken sentences and one more, for one n.

    Another sentence's hits change only where the reference wants no more of a gram than it has: so
    all choices together take time by the length of the document.
    """

    def __init__(self, sentences: list[Counter], wanted: Counter) -> None:
        self.size, self.hits, self.wanted = wanted.total(), 0, dict(wanted)
        self.sizes = np.array([counts.total() for counts in sentences], dtype=np.int64)
        self.shared = [{g: n for g, n in s.items() if g in wanted} for s in sentences]
        holders = defaultdict(list)
        for i, counts in enumerate(self.shared):
            for gram, count in counts.items():
                holders[gram].append((i, count))
        # Of each gram of the reference the sentences that have it, and how often.
        self.holders = {gram: np.array(pairs).T for gram, pairs in holders.items()}
        self.more = np.zeros(len(sentences), dtype=np.int64)  # hits that each would add
        for gram, (places, counts) in self.holders.items():
            self.more[places] += np.minimum(counts, wanted[gram])

    def scores(self) -> np.ndarray:
        """Return the score with each sentence, float64 [sentences]."""
        return 2 * (self.hits + self.more) / np.maximum(self.size + self.sizes, 1)

    def take(self, i: int) -> None:
        """Add sentence `i` to those that are taken."""
        self.hits, self.size = self.hits + self.more[i], self.size + self.sizes[i]
        for gram, count in self.shared[i].items():
            before, (places, counts) = self.wanted[gram], self.holders[gram]
            after = self.wanted[gram] = max(before - count, 0)
            if before and after < counts.max():
                self.more[places] += np.minimum(counts, after) - np.minimum(counts, before)


def _grams(sentence: str) -> Grams:
    tokens = words(sentence)
    return Counter(tokens), Counter(zip(tokens, tokens[1:], strict=False))
