"""Length of each prediction: its words / those of its reference, and whether it is empty."""

from __future__ import annotations

SETTINGS: dict = {}
CITE: tuple[str, ...] = ()  # none: counts words
COLUMNS = {"length_ratio": {"higher_is_better": None}, "empty": {"higher_is_better": False}}
MEANINGS = {
    "length_ratio": "0 and up, best near 1: words of the prediction / words of the reference.",
    "empty": "0 to 1: the share of predictions without any text.",
}


def compute(predictions, references):
    """Return length ratio and emptiness per example."""
    words = [len(text.split()) for text in predictions]
    wanted = [len(text.split()) for text in references]
    return {
        "length_ratio": [w / max(r, 1) for w, r in zip(words, wanted, strict=True)],
        "empty": [float(w == 0) for w in words],
    }
