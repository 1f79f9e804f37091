"""Rows that cannot both have been measured: other weights, and yet the same numbers."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

_CELL = ("model", "prune", "finetune", "dataset", "seed")


def copied_rows(
    rows: Sequence[Mapping[str, Any]], perplexities: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return (faults, notes) on rows of different weights that agree in every score.

    Two models of other weights never have the same perplexity, or log-likelihoods of a task's
    choices, to the last bit: that is a fault. But for one adapter that is merged in one row and
    lies beside the same base in another: the product is added to the weights either way, so the two
    can be one function. That is a note, and so is this:
    The same texts can come out of two (both silent, both repeating one word): that is a note.

    Args:
        rows: of a table; those that failed are passed over.
        perplexities: names of the columns that hold perplexities.
    """
    faults, notes = [], []
    measured = [row for row in rows if row["status"] == "ok"]
    for one, two in itertools.combinations(measured, 2):
        if one["weights_sha256"] == two["weights_sha256"]:
            continue
        names = " and ".join(_name(row) for row in (one, two))
        twins = _one_adapter(one, two)
        told, verdict = (notes, ": one adapter, merged and not") if twins else (faults, ": a copy")
        shared = [c for c in perplexities if one.get(c) is not None and two.get(c) is not None]
        if shared and all(one[column] == two[column] for column in shared):
            told.append(f"{names} have other weights and the same {', '.join(shared)}{verdict}")
        if one["answers_sha256"] is not None and one["answers_sha256"] == two["answers_sha256"]:
            told.append(f"{names} have other weights and the same log-likelihoods{verdict}")
    alike: dict[str, dict[str, str]] = defaultdict(dict)
    for row in measured:
        if row["predictions_sha256"] is not None:
            alike[row["predictions_sha256"]].setdefault(row["weights_sha256"], _name(row))
    notes += [
        f"{len(some)} sets of weights wrote the same texts ({'; '.join(some.values())})"
        for some in alike.values()
        if len(some) > 1
    ]
    return faults, notes


def _one_adapter(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    """Return whether two rows can be one tuned model, merged and not."""
    alike = all(one[key] == two[key] for key in _CELL if key != "finetune")
    return alike and {one["adapter"], two["adapter"]} == {"merged", "unmerged"}


def _name(row: Mapping[str, Any]) -> str:
    return " / ".join(str(row[key]) for key in _CELL if row[key] is not None)
