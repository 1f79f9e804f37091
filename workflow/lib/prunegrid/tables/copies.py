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
    choices, to the last bit: that is a fault.
    The same texts can come out of two (both silent, both repeating one word): that is a note.

    Args:
        rows: of a table; those that failed are passed over.
        perplexities: names of the columns that hold perplexities.
    """
    faults = []
    measured = [row for row in rows if row["status"] == "ok"]
    for one, two in itertools.combinations(measured, 2):
        if one["weights_sha256"] == two["weights_sha256"]:
            continue
        names = " and ".join(_name(row) for row in (one, two))
        shared = [c for c in perplexities if one.get(c) is not None and two.get(c) is not None]
        if shared and all(one[column] == two[column] for column in shared):
            faults.append(f"{names} have other weights and the same {', '.join(shared)}: a copy")
        if one["answers_sha256"] is not None and one["answers_sha256"] == two["answers_sha256"]:
            faults.append(f"{names} have other weights and the same log-likelihoods: a copy")
    alike: dict[str, dict[str, str]] = defaultdict(dict)
    for row in measured:
        if row["predictions_sha256"] is not None:
            alike[row["predictions_sha256"]].setdefault(row["weights_sha256"], _name(row))
    notes = [
        f"{len(some)} sets of weights wrote the same texts ({'; '.join(some.values())})"
        for some in alike.values()
        if len(some) > 1
    ]
    return faults, notes


def _name(row: Mapping[str, Any]) -> str:
    return " / ".join(str(row[key]) for key in _CELL if row[key] is not None)
