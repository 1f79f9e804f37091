"""The first fault of each prediction, one label an example, by rules with stated thresholds.

Each column is 1 for the examples of that label and 0 for the others, so its mean is a rate, and the
rates add up to 1. `text_analysis.failure_kinds` has the labels, their order and the thresholds,
which are this metric's settings.

`label_none` says that no rule found a fault, not that the summary is good.
"""

from __future__ import annotations

from prunegrid.evaluation.setting_checks import require_number
from prunegrid.evaluation.text_analysis import failure_kinds

SETTINGS = {
    "blank_words": 3,
    "loop_rep4": 0.5,
    "loop_span": 0.5,
    "header_words": 25,
    "copied_share": 0.8,
    "copied_run": 8,
    "start_words": 20,
    "overlap": 0.3,
    "name_precision": 0.5,
    "least_names": 2,
}
COLUMNS = {
    "label_blank": {"higher_is_better": False},
    "label_loop": {"higher_is_better": False},
    "label_header": {"higher_is_better": False},
    "label_copied_start": {"higher_is_better": False},
    "label_copied": {"higher_is_better": False},
    "label_irrelevant": {"higher_is_better": False},
    "label_wrong_entity": {"higher_is_better": False},
    "label_cut_off": {"higher_is_better": False},
    "label_none": {"higher_is_better": True},
}
READS = ("document",)


def compute(predictions, references, document, hit_limit, **limits):
    """Return one label per example, as columns of 0 and 1."""
    for name, value in limits.items():
        require_number(name, value, 0, float)
    rows = zip(predictions, document, hit_limit, strict=True)
    labels = [
        failure_kinds.first_fault(text, source, bool(hit), limits) for text, source, hit in rows
    ]
    return {
        column: [
            # What was not generated cannot have been cut off: no score is not "it was not".
            None if column == "label_cut_off" and hit is None else float(f"label_{label}" == column)
            for label, hit in zip(labels, hit_limit, strict=True)
        ]
        for column in COLUMNS
    }
