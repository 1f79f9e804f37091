"""Shares of the numbers, names and section citations of each prediction that its document has too.

They are counted as distinct ones, in the whole document. A prediction without any has no score.
`text_analysis.numbers_and_names` has the rules and what they miss.
"""

from __future__ import annotations

from prunegrid.evaluation.text_analysis import numbers_and_names

SETTINGS: dict = {}
CITE: tuple[str, ...] = ()  # none: rules of this project
COLUMNS = {
    "number_precision": {"higher_is_better": True},
    "name_precision": {"higher_is_better": True},
    "citation_precision": {"higher_is_better": True},
}
MEANINGS = {
    "number_precision": "0 to 1: the share of the prediction's numbers that the document has.",
    "name_precision": "0 to 1: the share of its names that the document has.",
    "citation_precision": "0 to 1: the share of its section citations that the document has.",
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
