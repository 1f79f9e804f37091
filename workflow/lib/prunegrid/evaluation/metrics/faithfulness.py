"""The share of what each prediction names that its document names too, without another model.

number_precision, name_precision, citation_precision: of the distinct numbers, names (capitalised
spans that do not begin a sentence) and section citations of the prediction, the share that stands
in the whole document. A prediction that names none has no score, so `n` says over how many the mean
is. `text_analysis.numbers_and_names` has the rules and what they miss.

Precision alone: a text that says nothing, or copies, has no fault here. A right number in a wrong
place counts as right; a right one in another form (`2.5 million` for `2,500,000`) as wrong.
"""

from __future__ import annotations

from prunegrid.evaluation.text_analysis import numbers_and_names

SETTINGS: dict = {}
COLUMNS = {
    "number_precision": {"higher_is_better": True},
    "name_precision": {"higher_is_better": True},
    "citation_precision": {"higher_is_better": True},
}
READS = ("document",)


def compute(predictions, references, document):
    """Return the precision of numbers, names and citations per example."""
    pairs = list(zip(predictions, document, strict=True))
    return {
        "number_precision": [numbers_and_names.number_precision(*pair) for pair in pairs],
        "name_precision": [numbers_and_names.name_precision(*pair) for pair in pairs],
        "citation_precision": [numbers_and_names.citation_precision(*pair) for pair in pairs],
    }
