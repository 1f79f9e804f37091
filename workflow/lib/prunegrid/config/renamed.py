"""Old names of keys and studies, and the names that replace them."""

from __future__ import annotations

from collections.abc import Iterable

from prunegrid.common.errors import nearest

STUDIES = {
    "architectures_legacy": "architectures-legacy",
    "census_legacy": "census-legacy",
    "equal": "equal-budget",
    "figure1_legacy": "figure1-legacy",
    "table3_full": "table3-full",
    "table3_legacy": "table3-legacy",
    "updates": "weight-updates",
}
# {(a profile's section, "" at the top; the key's old name): the text to write in its place}.
KEYS = {
    ("", "retention"): "keep_weights: always or until_used",
    ("datasets", "against"): "disjoint_from",
    ("datasets", "cap"): "max_rows",
    ("evaluations", "learn"): "train_split",
    ("evaluations", "learn_rows"): "train_rows",
    ("finetune", "sparsity"): "preserve_zeros: true or false",
}


def successor_of_key(section: str, key: str, known: Iterable[str]) -> str:
    """Return the hint for an unknown key: its new name, or the nearest."""
    new = KEYS.get((section, key))
    return f"write {new} in its place" if new else nearest(key, known)


def successor(name: str, known: Iterable[str]) -> str:
    """Return the hint for an unknown study: its new name, or the nearest."""
    new = STUDIES.get(name)
    return f"it is called '{new}' now" if new else nearest(name, known)
