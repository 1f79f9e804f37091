"""How fast a cell is beside the untouched dense model, timed in the same way on the same device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy

from prunegrid.artifacts import canonical_json, read_json
from prunegrid.tables.intervals import RESAMPLES

PHASES = ("prefill", "decode")


def add_ratios(plan: Mapping[str, Any], rows: list[dict]) -> None:
    """Add the ratios of speed to the rows, in place.

    A cell is compared with the cell of the same model that has no step at all, where both were
    timed with the same settings, weights stored in the same dtype, device and threads.

    Args:
        rows: one a cell of the plan, in its order.
    """
    timed = [
        (cell, row, read_json(Path(cell["efficiency"]["path"], "efficiency.json")))
        for cell, row in zip(plan["cells"], rows, strict=True)
        if cell["efficiency"] and row["status"] == "ok"
    ]
    dense = {_kind(row, facts): facts for cell, row, facts in timed if len(cell["chain"]) == 1}
    for cell, row, facts in timed:
        base = dense.get(_kind(row, facts))
        if base is None or len(cell["chain"]) == 1:
            continue
        # Whole passes (of an encoder, say) have no decoding.
        for phase in (p for p in PHASES if f"{p}_seconds" in facts["repetitions"]):
            mine, theirs = (
                numpy.array(each["repetitions"][f"{phase}_seconds"]) for each in (facts, base)
            )
            value, low, high = ratio(plan, mine, theirs)
            name = f"{phase}_speed_vs_dense"
            row |= {name: value, f"{name}_low": low, f"{name}_high": high}


def _kind(row: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple:
    """Return what two timings must share to be compared."""
    settings = {key: value for key, value in facts["settings"].items() if key != "sizes"}
    timing = (facts["device"], facts["threads"], canonical_json(settings))
    return (row["model"], row["dtype"], *timing)


def ratio(
    plan: Mapping[str, Any], mine: numpy.ndarray, theirs: numpy.ndarray
) -> tuple[float, float | None, float | None]:
    """Return median(theirs) / median(mine) of seconds, and its 95% percentile bootstrap interval.

    The repetitions of each side are drawn for themselves. One repetition has no interval.
    """
    value = float(numpy.median(theirs) / numpy.median(mine))
    if min(len(mine), len(theirs)) < 2:
        return value, None, None
    generator = numpy.random.default_rng(plan["bootstrap_seed"])
    medians = [
        numpy.median(side[generator.integers(0, len(side), (RESAMPLES, len(side)))], axis=1)
        for side in (mine, theirs)
    ]
    low, high = numpy.quantile(medians[1] / medians[0], [0.025, 0.975])
    return value, float(low), float(high)
