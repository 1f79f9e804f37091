"""A cell's speed in the tables, as its timing recorded it.

Both sides of a ratio took turns in the timing's own process (`prunegrid.evaluation.side_by_side`).
A ratio of two artifacts would compare two times of day.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas

from prunegrid.tables.markdown import number, ratio
from prunegrid.tables.schema import Row

# `speed_form` of packed weights: its beginning, what follows where all stayed dense, and the end
# where none could run.
PACKED, NOTHING, NO_KERNEL = "packed", "nothing", "no kernel"


def columns(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of speed of a row.

    Args:
        record: of a timing's manifest. One that was adopted from before turns were taken has no
            ratio.
    """
    disturbed = "; ".join(record.get("disturbed") or ()) or None
    names = ("alone", "pairs")
    row = {f"speed_{name}": record.get(name) for name in names} | {"speed_disturbed": disturbed}
    row |= {name: record.get(name) for name in ("turn_seconds", "turn_cpu_seconds")}
    form = record.get("form") or {}
    row |= {"speed_form": _form(form), "resident_bytes": form.get("resident_bytes")}
    for name in ("prefill_tokens_per_second", "decode_tokens_per_second"):
        if record[name] is not None:
            row[name] = record[name]["median"]
    for other, phases in record.get("versus", {}).items():
        for phase, facts in phases.items():
            name = f"{phase}_speed_vs_{other}"
            row |= {name: facts["value"], f"{name}_low": facts["low"]}
            row[f"{name}_high"] = facts["high"]
            if other == "dense":
                row[f"{phase}_speed_verdict"] = None if disturbed else facts["verdict"]
    return row


def _form(form: Mapping[str, Any]) -> str | None:
    """Return how weights ran in words; None where a timing does not say it."""
    if form.get("form") == "packed":
        return f"{PACKED} {form['values'] or NOTHING}, {form['kernel'] or NO_KERNEL}"
    return ": ".join(filter(None, (form.get("form"), form.get("reason")))) or None


def ran_packed(wide: pandas.DataFrame) -> pandas.Series:
    """Return bool for each row: its cell was timed from packed weights."""
    return _form_begins(wide, PACKED)


def ran_as_stored(wide: pandas.DataFrame) -> pandas.Series:
    """Return bool for each row: none of its linears was packed when it was timed."""
    return ~ran_packed(wide) | _form_begins(wide, f"{PACKED} {NOTHING}")


def _form_begins(wide: pandas.DataFrame, words: str) -> pandas.Series:
    return wide["speed_form"].astype("string").str.startswith(words).fillna(False).astype(bool)


def packed_line(wide: pandas.DataFrame) -> str | None:
    """Return the fastest packed cell in a line, or what its speed would need; None without any."""
    rows = wide[ran_packed(wide)]
    rows = rows[rows["speed_disturbed"].isna() & rows["decode_speed_vs_dense"].notna()]
    kernels = rows[~rows["speed_form"].astype("string").str.endswith(NO_KERNEL)]
    if rows.empty:
        return None
    if kernels.empty:
        return (
            "no C++ compiler here, so packed weights ran as dense ones: with one (apt install g++) "
            "run it again (docs/how-to/run-packed.md)"
        )
    row = kernels.loc[kernels["decode_speed_vs_dense"].astype(float).idxmax()]
    times, memory = ratio(row, "decode_speed_vs_dense"), number(row["resident_bytes"] / 1e6, ".0f")
    return (
        f"packed, {row['prune']} / {row['finetune']} writes {times} times as many tokens a second "
        f"as the untouched model, from {memory} MB of memory (docs/how-to/run-packed.md)"
    )


def shown(row: Row) -> dict[str, str]:
    """Return a row's speeds as texts: of decoding, or of whole passes if it does not decode.

    Those of a disturbed timing are marked.
    """
    phase = "prefill" if pandas.isna(row["decode_tokens_per_second"]) else "decode"
    texts = {
        "tok/s": number(row[f"{phase}_tokens_per_second"], ".1f"),
        "vs dense": ratio(row, f"{phase}_speed_vs_dense"),
        "vs dense, same format": ratio(row, f"{phase}_speed_vs_dense_same_format"),
    }
    mark = "" if pandas.isna(row["speed_disturbed"]) else " §"
    return {name: text and text + mark for name, text in texts.items()}


def sentences(wide: pandas.DataFrame) -> list[str]:
    """Return what the ratios of speed are, and which timings were disturbed."""
    texts = []
    if wide["prefill_speed_vs_dense"].notna().any():
        texts.append(
            "`vs dense` is how many times as fast the cell decodes (or makes whole passes) as the "
            "untouched model; above 1 is faster. Both took turns in one process; the 99.9% "
            "interval is over pairs of turns."
        )
    if wide["prefill_speed_vs_dense_same_format"].notna().any():
        texts.append(
            "`vs dense, same format` is the same beside the untouched model in the cell's weight "
            "format."
        )
    packed = wide["speed_form"][ran_packed(wide)].drop_duplicates()
    if len(packed):
        texts.append(
            f"Cells ran from packed weights ({'; '.join(packed)}), the untouched model from dense "
            "ones. Scores are of the weights as they are stored."
        )
    disturbed = wide["speed_disturbed"].dropna()
    if len(disturbed):
        texts.append(
            f"§ {len(disturbed)} timing(s) were disturbed and have no verdict (the first: "
            f"{disturbed.iloc[0]}): run `prunegrid remeasure {wide['study'].iloc[0]}`."
        )
    return texts
