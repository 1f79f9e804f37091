"""How much of each prediction is copied from its document (Grusky et al., 2018, arXiv:1804.11283).

copy_coverage: the share of its words that lie in extractive fragments. copy_density: the mean over
its words of the length of the fragment that each lies in; a text copied in one piece has its own
length. copy_longest: words of the longest fragment. Fragments are taken against the whole document,
not only the part that fitted into the prompt. A prediction without a word has no score.

Neither a high nor a low value is better by itself: extracts copy, and so do models that no longer
summarize. See `prunegrid.evaluation.text_analysis.fragments` for what a fragment is, and the
deviation.
"""

from __future__ import annotations

from prunegrid.evaluation.text_analysis import fragments
from prunegrid.evaluation.text_analysis.words import words

SETTINGS: dict = {}
COLUMNS = {
    "copy_coverage": {"higher_is_better": None},
    "copy_density": {"higher_is_better": None},
    "copy_longest": {"higher_is_better": None},
}
NEEDS_MODEL = False
READS = ("document",)


def compute(predictions, references, document):
    """Return extractive fragments per example."""
    scores = {column: [] for column in COLUMNS}
    for prediction, source in zip(predictions, document, strict=True):
        said = words(prediction)
        found = fragments.fragments(said, words(source))
        longest = max((float(fragment.length) for fragment in found), default=0.0)
        values = (None, None, None)
        if said:
            size = len(said)
            values = (
                fragments.coverage(found, size),
                fragments.density(found, size),
                longest,
            )
        for column, value in zip(COLUMNS, values, strict=True):
            scores[column].append(value)
    return scores
