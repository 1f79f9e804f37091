"""The first fault of each prediction, one label an example, by rules with thresholds.

Each column is 1 for the examples of that label and 0 for the others, so its mean is a rate, and the
rates add up to 1. A text gets the first label that applies, in the order of COLUMNS; the rules are
in docs/explanations/metrics.md. A heading is a sentence whose small words are function words alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from prunegrid.evaluation.setting_checks import require_number
from prunegrid.evaluation.text_analysis import fragments, numbers_and_names, repeated_phrases
from prunegrid.evaluation.text_analysis.words import content_stems, split_sentences, words

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
CITE: tuple[str, ...] = ()  # none: rules of this project
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
MEANINGS = {
    "blank_words": "A text with fewer words is `blank`.",
    "loop_rep4": "A text with this share of repeated 4-grams is a `loop`.",
    "loop_span": "A text is a `loop` if one span of this share of the words stands at two places.",
    "header_words": "A `header` has no more words than this.",
    "copied_share": "The share of words in copied runs that makes a copy.",
    "copied_run": "The least words of a copied run.",
    "start_words": "A copy from the document's first so many words is `copied_start`.",
    "overlap": "A text with a smaller share of content words in the document is `irrelevant`.",
    "name_precision": "A text with fewer of its names in the document has a `wrong_entity`.",
    "least_names": "The least distinct names for that.",
    "label_blank": "0 to 1: the share of predictions with hardly a word.",
    "label_loop": "0 to 1: the share of predictions that go round in circles.",
    "label_header": "0 to 1: the share of predictions that are headings alone.",
    "label_copied_start": "0 to 1: the share of predictions copied from the document's beginning.",
    "label_copied": "0 to 1: the share of predictions copied from further on.",
    "label_irrelevant": "0 to 1: the share of predictions about something else.",
    "label_wrong_entity": "0 to 1: the share of predictions with names that the document lacks.",
    "label_cut_off": "0 to 1: the share of predictions that hit the limit amid a sentence.",
    "label_none": "0 to 1: the share of predictions in which no rule found a fault.",
}
READS = ("document",)

_LEAST_SPAN = 4
_SMALL = frozenset(("a", "an", "and", "as", "at", "by", "for", "in", "of", "on", "or", "the", "to"))
_HEADING = re.compile(r"may be cited as", re.IGNORECASE)
_ENDED = re.compile(r"""[.!?]["'”’)\]]*$""")


def compute(predictions, references, document, hit_limit, **limits):
    """Return one label per example, as columns of 0 and 1."""
    for name, value in limits.items():
        require_number(name, value, 0, float)
    rows = zip(predictions, document, hit_limit, strict=True)
    labels = [first_fault(text, source, bool(hit), limits) for text, source, hit in rows]
    return {
        column: [
            # What was not generated cannot have been cut off: no score is not "it was not".
            None if column == "label_cut_off" and hit is None else float(f"label_{label}" == column)
            for label, hit in zip(labels, hit_limit, strict=True)
        ]
        for column in COLUMNS
    }


def first_fault(text: str, document: str, hit_limit: bool, limits: Mapping[str, float]) -> str:
    """Return the label of a text that should be a summary of the whole document."""
    said = words(text)
    if len(said) < limits["blank_words"]:
        return "blank"
    share, span = repeated_phrases.repeated_share(said, 4), repeated_phrases.longest_repeat(said)
    if share is not None and share >= limits["loop_rep4"]:
        return "loop"
    if span >= max(_LEAST_SPAN, limits["loop_span"] * len(said)):
        return "loop"
    if len(said) <= limits["header_words"] and all(map(_is_heading, split_sentences(text))):
        return "header"
    copied = _copied(said, words(document), limits)
    if copied is not None:
        return copied
    stems = content_stems(text)
    if stems and len(stems & content_stems(document)) < limits["overlap"] * len(stems):
        return "irrelevant"
    precision = numbers_and_names.name_precision(text, document)
    many = len(numbers_and_names.names(text)) >= limits["least_names"]
    if many and precision is not None and precision < limits["name_precision"]:
        return "wrong_entity"
    if hit_limit and not _ENDED.search(text.strip()):
        return "cut_off"
    return "none"


def _is_heading(sentence: str) -> bool:
    """Return whether a sentence looks like a heading."""
    if _HEADING.search(sentence):
        return True
    spelled = [word for word in sentence.split() if any(map(str.isalpha, word))]
    capital = {word: next(filter(str.isalpha, word)).isupper() for word in spelled}
    # In scripts without capitals no capital tells a heading.
    return any(capital.values()) and all(
        capital[word] or word.casefold().strip(".,;:") in _SMALL for word in spelled
    )


def _copied(said: list[str], source: list[str], limits: Mapping[str, float]) -> str | None:
    """Return copied_start, copied, or None for a text of words of its own."""
    run = min(limits["copied_run"], len(said))
    long = [f for f in fragments.fragments(said, source) if f.length >= run]
    if not long or fragments.coverage(long, len(said)) < limits["copied_share"]:
        return None
    return "copied_start" if long[0].source < limits["start_words"] else "copied"
