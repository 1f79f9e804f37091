"""BLEU of the whole corpus (Papineni et al., 2002), by sacrebleu (Post, 2018), 0 to 100.

Its 95% interval is sacrebleu's bootstrap over sentences (Koehn, 2004); `signature` says how it was
computed.
"""

from __future__ import annotations

from sacrebleu.metrics import BLEU

SETTINGS = {"tokenize": "13a", "lowercase": False, "resamples": 1000}
COLUMNS = {"bleu": {"higher_is_better": True}}
PACKAGES = ("sacrebleu",)


def compute(predictions, references, *, tokenize, lowercase, resamples):
    """Return BLEU of decoded texts."""
    metric = BLEU(tokenize=tokenize, lowercase=lowercase)
    score = metric.corpus_score(list(predictions), [list(references)], n_bootstrap=resamples)
    return {
        "bleu": float(score.score),
        "signature": str(metric.get_signature()),
        "mean": float(score._mean),
        "half_width": float(score._ci),
    }
