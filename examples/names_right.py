"""How many of a reference's capitalised words a text repeats: a metric is a file with `compute`."""

import re

SETTINGS = {"least": 2}  # keys of the profile, with their defaults
COLUMNS = {"names_right": {"higher_is_better": True}}


def _names(text: str, least: int) -> set[str]:
    return {word for word in re.findall(r"\b[A-Z]\w+", text) if len(word) >= least}


def compute(predictions, references, *, least):
    """Return the share of each reference's names that its prediction has, 1 where it has none."""
    shares = []
    for predicted, reference in zip(predictions, references, strict=True):
        wanted = _names(reference, least)
        shares.append(len(wanted & _names(predicted, least)) / len(wanted) if wanted else 1.0)
    return {"names_right": shares}
