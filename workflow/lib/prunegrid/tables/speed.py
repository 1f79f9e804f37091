"""What a row says of a cell's speed, read from its timing: nothing is compared anew here.

Both sides of a ratio took turns in the timing's own process (`prunegrid.evaluation.side_by_side`).
A ratio of two artifacts would compare two times of day.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas

from prunegrid.tables.markdown import number, ratio

PHASES = ("prefill", "decode")


def columns(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of speed of a row.

    Args:
        record: of a timing's manifest. One that was adopted from before turns were taken has no
            ratio.
    """
    disturbed = record.get("disturbed")
    found: dict[str, Any] = {
        f"{phase}_tokens_per_second": record[f"{phase}_tokens_per_second"]["median"]
        for phase in PHASES
        if record[f"{phase}_tokens_per_second"] is not None
    }
    found |= {
        "speed_disturbed": "; ".join(disturbed) if disturbed else None,
        "speed_alone": record.get("alone"),
        "speed_pairs": record.get("pairs"),
        "turn_seconds": record.get("turn_seconds"),
        "turn_cpu_seconds": record.get("turn_cpu_seconds"),
    }
    for other, phases in record.get("versus", {}).items():
        for phase, facts in phases.items():
            name = f"{phase}_speed_vs_{other}"
            found |= {name: facts["value"], f"{name}_low": facts["low"]}
            found[f"{name}_high"] = facts["high"]
            if other == "dense":
                found[f"{phase}_speed_verdict"] = None if disturbed else facts["verdict"]
    return found


def shown(row: Mapping[str, Any]) -> dict[str, str]:
    """Return how a row's speeds are shown, of whole passes where it does not decode.

    Those of a disturbed timing are marked.
    """
    phase = "prefill" if pandas.isna(row["decode_tokens_per_second"]) else "decode"
    found = {
        "tok/s": number(row[f"{phase}_tokens_per_second"], ".1f"),
        "vs dense": ratio(row, f"{phase}_speed_vs_dense"),
        "vs dense, same format": ratio(row, f"{phase}_speed_vs_dense_same_format"),
    }
    mark = "" if pandas.isna(row["speed_disturbed"]) else " §"
    return {name: text and text + mark for name, text in found.items()}


def sentences(wide: pandas.DataFrame) -> list[str]:
    """Return what the ratios of speed are, and which timings were disturbed."""
    found = []
    if wide["prefill_speed_vs_dense"].notna().any():
        found.append(
            "`vs dense` is how many times as fast the cell decodes (or makes whole passes) as the "
            "untouched model; above 1 is faster. Both took turns in one process; the 99.9% "
            "interval is over pairs of turns."
        )
    if wide["prefill_speed_vs_dense_same_format"].notna().any():
        found.append(
            "`vs dense, same format` is the same beside the untouched model in the cell's weight "
            "format."
        )
    disturbed = wide["speed_disturbed"].dropna()
    if len(disturbed):
        found.append(
            f"§ {len(disturbed)} timing(s) were disturbed and have no verdict (the first: "
            f"{disturbed.iloc[0]}): run `prunegrid remeasure {wide['study'].iloc[0]}`."
        )
    return found
