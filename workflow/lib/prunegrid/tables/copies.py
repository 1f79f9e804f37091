"""Rows of different weights with the same numbers: one of them was copied."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence

from prunegrid.tables.schema import CELL, Row, cell_title


def copied_rows(rows: Sequence[Row], perplexities: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (faults, notes) on rows of different weights that agree in every score.

    Two models of other weights never have the same perplexity, or log-likelihoods of a task's
    choices, to the last bit: that is a fault. One adapter may be merged in one row and lie beside
    the same base in another: the product is added to the weights either way, so the two can be one
    function, and that is a note. Two models can write the same texts (both silent, both repeating
    one word): that is a note too.

    Args:
        rows: of a table; those that failed are passed over.
    """
    faults, notes = [], []
    measured = [row for row in rows if row["status"] == "ok"]
    for one, two in itertools.combinations(measured, 2):
        if one["weights_sha256"] == two["weights_sha256"]:
            continue
        names = f"{cell_title(one)} and {cell_title(two)} have other weights and the same"
        messages, verdict = faults, "a copy"
        if _one_adapter(one, two):
            messages, verdict = notes, "one adapter, merged and not"
        shared = [c for c in perplexities if one.get(c) is not None and two.get(c) is not None]
        if shared and all(one[column] == two[column] for column in shared):
            messages.append(f"{names} {', '.join(shared)}: {verdict}")
        if one["answers_sha256"] is not None and one["answers_sha256"] == two["answers_sha256"]:
            messages.append(f"{names} log-likelihoods: {verdict}")
    alike: dict[str, dict[str, str]] = defaultdict(dict)
    for row in measured:
        if row["predictions_sha256"] is not None:
            alike[row["predictions_sha256"]].setdefault(row["weights_sha256"], cell_title(row))
    notes += [
        f"{len(names)} sets of weights wrote the same texts ({'; '.join(names.values())})"
        for names in alike.values()
        if len(names) > 1
    ]
    return faults, notes


def _one_adapter(one: Row, two: Row) -> bool:
    """Return whether two rows can be one tuned model, merged and not."""
    alike = all(one[key] == two[key] for key in CELL if key != "finetune")
    return alike and {one["adapter"], two["adapter"]} == {"merged", "unmerged"}
