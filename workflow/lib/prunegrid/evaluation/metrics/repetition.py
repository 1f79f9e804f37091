"""Repetition within each prediction, in words between white space, lower-cased.

rep2, rep3, rep4: the share of word n-grams that occurred before ("seq-rep-n" of Welleck et al.,
2020, "Neural text generation with unlikelihood training", of words instead of tokens); none where
there is no n-gram. longest_repeat: words of the longest span that stands at two places.
compression: bytes of the text / bytes after zlib, whose version is in the record.
"""

from __future__ import annotations

import zlib

from prunegrid.evaluation.text_analysis import repeated_phrases

SETTINGS: dict = {}
CITE = ("welleck2020neural",)
COLUMNS = {
    "rep2": {"higher_is_better": False},
    "rep3": {"higher_is_better": False},
    "rep4": {"higher_is_better": False},
    "longest_repeat": {"higher_is_better": False},
    "compression": {"higher_is_better": None},
}
MEANINGS = {
    "rep2": "0 to 1: the share of word 2-grams that occurred before in the same prediction.",
    "rep3": "0 to 1: the share of word 3-grams that occurred before in the same prediction.",
    "rep4": "0 to 1: the share of word 4-grams that occurred before in the same prediction.",
    "longest_repeat": "0 and up: words of the longest span that stands at two places.",
    "compression": "About 0.5 and up: bytes of the text / bytes after zlib.",
}


def compute(predictions, references):
    """Return repeated n-grams, the longest repeated span and the compression ratio per example."""
    texts = [text.lower().split() for text in predictions]
    return {
        **{f"rep{n}": [repeated_phrases.repeated_share(t, n) for t in texts] for n in (2, 3, 4)},
        "longest_repeat": [float(repeated_phrases.longest_repeat(text)) for text in texts],
        "compression": [repeated_phrases.compression_ratio(text) for text in predictions],
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
    }
