"""BLEU of the whole corpus (Papineni et al., 2002), by sacrebleu (Post, 2018), 0 to 100.

Its 95% interval is a percentile bootstrap over sentences (Koehn, 2004); sacrebleu's own is as wide
on both sides, so that it leaves the range. `signature` says how BLEU was computed.
"""

from __future__ import annotations

import numpy as np
from sacrebleu.metrics import BLEU

from prunegrid.evaluation.setting_checks import require_number

SETTINGS = {"tokenize": "13a", "lowercase": False, "resamples": 1000}
CITE = ("papineni2002bleu", "post2018call", "koehn2004statistical")
COLUMNS = {"bleu": {"higher_is_better": True}}
MEANINGS = {
    "tokenize": "The tokenizer of sacrebleu.",
    "lowercase": "Whether texts are lower-cased.",
    "resamples": "Resamples of the bootstrap over sentences.",
    "bleu": "0 to 100: BLEU of the whole corpus, word n-grams of up to 4 words.",
}
PACKAGES = ("sacrebleu",)

_SEED = 12345  # sacrebleu's


def compute(predictions, references, *, tokenize, lowercase, resamples):
    """Return BLEU of decoded texts, and the ends of its interval."""
    require_number("resamples", resamples, 1)
    metric = BLEU(tokenize=tokenize, lowercase=lowercase)
    score = metric.corpus_score(list(predictions), [list(references)])
    pairs = zip(predictions, references, strict=True)
    parts = [metric.corpus_score([said], [[true]]) for said, true in pairs]
    counts = np.array([[*p.counts, *p.totals, p.sys_len, p.ref_len] for p in parts])
    draw = np.random.default_rng(_SEED)
    drawn = [
        _bleu(metric, counts[draw.integers(0, len(counts), size=len(counts))].sum(axis=0))
        for _ in range(resamples)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "bleu": float(score.score),
        "signature": str(metric.get_signature()),
        "low": float(low),
        "high": float(high),
    }


def _bleu(metric: BLEU, counts: np.ndarray) -> float:
    """Return BLEU of summed counts: matches and n-grams of each order, length, reference length."""
    *grams, length, reference = counts.tolist()
    order = len(grams) // 2
    return metric.compute_bleu(
        grams[:order],
        grams[order:],
        length,
        reference,
        smooth_method=metric.smooth_method,
        smooth_value=metric.smooth_value,
        effective_order=metric.effective_order,
        max_ngram_order=order,
    ).score
