"""chrF2 (Popović, 2015), by sacrebleu, 0 to 100: of each text, and of the whole corpus.

F with β = 2 over n-grams of up to 6 characters, spaces left out. `chrf_corpus` counts n-grams over
all texts first, as published scores do. `signature` says how both were computed.
"""

from __future__ import annotations

from sacrebleu.metrics import CHRF

SETTINGS = {"word_order": 0}
CITE = ("popovic2015chrf", "post2018call")
COLUMNS = {"chrf": {"higher_is_better": True}, "chrf_corpus": {"higher_is_better": True}}
MEANINGS = {
    "word_order": "The longest word n-grams that count too (2 is chrF++).",
    "chrf": "0 to 100: shared character n-grams of each text (chrF2).",
    "chrf_corpus": "0 to 100: the same with n-grams counted over all texts first.",
}
PACKAGES = ("sacrebleu",)


def compute(predictions, references, *, word_order):
    """Return chrF of decoded texts."""
    metric = CHRF(word_order=word_order)
    pairs = zip(predictions, references, strict=True)
    return {
        "chrf": [float(metric.sentence_score(said, [true]).score) for said, true in pairs],
        "chrf_corpus": float(metric.corpus_score(predictions, [references]).score),
        "signature": str(metric.get_signature()),
    }
