"""Copying of each prediction from its whole document (Grusky et al., 2018, arXiv:1804.11283).

copy_coverage: the share of its words that lie in extractive fragments. copy_density: the mean over
its words of the length of the fragment that each lies in. copy_longest: words of the longest
fragment. A prediction without a word has no score. `text_analysis.fragments` has the deviation.
"""

from __future__ import annotations

from prunegrid.evaluation.text_analysis import fragments
from prunegrid.evaluation.text_analysis.words import words

SETTINGS: dict = {}
CITE = ("grusky2018newsroom",)
COLUMNS = {
    "copy_coverage": {"higher_is_better": None},
    "copy_density": {"higher_is_better": None},
    "copy_longest": {"higher_is_better": None},
}
MEANINGS = {
    "copy_coverage": "0 to 1: the share of words that lie in fragments copied from the document.",
    "copy_density": "0 and up: the mean over words of the length of the fragment around each.",
    "copy_longest": "0 and up: words of the longest fragment.",
}
READS = ("document",)


def compute(predictions, references, document):
    """Return coverage, density and longest fragment of each example."""
    scores = {column: [] for column in COLUMNS}
    for prediction, source in zip(predictions, document, strict=True):
        said = words(prediction)
        copied = fragments.fragments(said, words(source))
        size = len(said)
        values = {
            "copy_coverage": fragments.coverage(copied, size) if said else None,
            "copy_density": fragments.density(copied, size) if said else None,
            "copy_longest": max((float(f.length) for f in copied), default=0.0) if said else None,
        }
        for column, value in values.items():
            scores[column].append(value)
    return scores
