"""The sentences of the document that together come closest to the reference: an oracle of extracts.

Sentences are added one at a time, each time the one that raises ROUGE-1 F + ROUGE-2 F against the
reference the most (the first of equals), until none raises it (Liu and Lapata, 2019, "Text
summarization with pretrained encoders"; Nallapati et al., 2017). They are put in the document's
order. Greedy search is not exact: a better set can exist, but few extracts beat it.

Deviations: words are those of `text_analysis.words` (no stemming), bigrams do not cross sentences,
and the number of sentences has no limit unless `sentences` sets one.
"""

from __future__ import annotations

from collections import Counter

import pandas as pd

from prunegrid.evaluation.setting_checks import require_number
from prunegrid.evaluation.text_analysis.words import split_sentences, words

ROLE = "oracle"
SETTINGS = {"sentences": None}

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
        reference = [_grams(sentence) for sentence in split_sentences(summary)]
        total = tuple(sum(counts, Counter()) for counts in zip(*reference, strict=True))
        chosen = _choose([_grams(s) for s in sentences], total or (Counter(), Counter()), limit)
        texts.append("\n".join(sentences[i] for i in sorted(chosen)))
    return texts


def _choose(sentences: list[Grams], reference: Grams, limit: int | None) -> list[int]:
    """Return the numbers of the sentences that are taken, in the order of choice."""
    chosen: list[int] = []
    taken, best = (Counter(), Counter()), 0.0
    while limit is None or len(chosen) < limit:
        scores = [
            (_score(taken, sentence, reference), -i)
            for i, sentence in enumerate(sentences)
            if i not in chosen
        ]
        score, place = max(scores, default=(0.0, 0))
        if score <= best:
            break
        best = score
        chosen.append(-place)
        taken = tuple(a + b for a, b in zip(taken, sentences[-place], strict=True))
    return chosen


def _grams(sentence: str) -> Grams:
    tokens = words(sentence)
    return Counter(tokens), Counter(zip(tokens, tokens[1:], strict=False))


def _score(taken: Grams, more: Grams, reference: Grams) -> float:
    """Return ROUGE-1 F + ROUGE-2 F of the taken sentences and one more."""
    total = 0.0
    for have, new, wanted in zip(taken, more, reference, strict=True):
        hits = sum(min(have[gram] + new[gram], count) for gram, count in wanted.items())
        size = have.total() + new.total() + wanted.total()
        total += 2 * hits / size if size else 0.0
    return total
