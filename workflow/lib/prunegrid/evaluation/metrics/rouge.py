"""ROUGE-1, -2, -L and -Lsum F-measures of each example (Lin, 2004), by `rouge_score`.

Deviations from the Perl original: those of `rouge_score` (words of [a-z0-9] alone, nltk's Porter
stemmer). Sentences for Lsum come from a rule (`text_analysis.words`), not from a model of nltk.
"""

from __future__ import annotations

from rouge_score.rouge_scorer import RougeScorer
from tqdm.auto import tqdm

from prunegrid.evaluation.text_analysis.words import split_sentences

SETTINGS = {"stemmer": True, "sentences": "rule"}
CITE = ("lin2004rouge",)
COLUMNS = {
    "rouge1": {"higher_is_better": True},
    "rouge2": {"higher_is_better": True},
    "rougeL": {"higher_is_better": True},
    "rougeLsum": {"higher_is_better": True},
}
MEANINGS = {
    "stemmer": "Whether words are cut by Porter's stemmer.",
    "sentences": "Sentences of rougeLsum end by a `rule`, or at `lines`.",
    "rouge1": "0 to 1: F-measure of shared words.",
    "rouge2": "0 to 1: F-measure of shared word pairs.",
    "rougeL": "0 to 1: F-measure of the longest common subsequence of the whole texts.",
    "rougeLsum": "0 to 1: the same sentence by sentence.",
}
PACKAGES = ("rouge-score", "nltk")


def compute(predictions, references, *, stemmer, sentences):
    """Return ROUGE F-measures per example."""
    if sentences not in ("rule", "lines"):
        raise ValueError(f"sentences is '{sentences}'; expected 'rule' or 'lines'")
    if not isinstance(stemmer, bool):
        raise ValueError(f"stemmer is {stemmer!r}; expected true or false")
    scorer = RougeScorer(list(COLUMNS), use_stemmer=stemmer)
    split = split_sentences if sentences == "rule" else str.splitlines
    scores = {column: [] for column in COLUMNS}
    pairs = zip(references, predictions, strict=True)
    for reference, prediction in tqdm(pairs, "rouge", len(references), disable=None):
        result = scorer.score("\n".join(split(reference)), "\n".join(split(prediction)))
        for column in COLUMNS:
            scores[column].append(float(result[column].fmeasure))
    return scores
