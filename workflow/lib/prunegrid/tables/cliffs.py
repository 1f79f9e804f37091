"""The cliff of a score: the highest sparsity that is non-inferior to dense by a margin.

Along a line (one model, data set, method and fine-tuning) sparsities are tested in rising order,
each against the line's dense cells by the one-sided paired test that contrasts use, on the same
items; the first that fails ends it, and the highest before it is the cliff. Tests in an order that
is fixed beforehand, each made only if all before it were passed, keep the error of the whole line
at the level of one without a correction (Maurer, Hothorn and Lehmacher, 1995). Several scores, and
several lines, are several such families. A level at chance is never held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas

from prunegrid.common.errors import PrunegridError
from prunegrid.tables import inference
from prunegrid.tables.contrasts import DRIFTED, measured
from prunegrid.tables.figures.points import share_gone
from prunegrid.tables.schema import CLIFFS, Plan, Row

_LINE = ("model", "dataset", "finetune")
DENSE = "dense"


def cliff_rows(
    plan: Plan, rows: Sequence[Row], tall: pandas.DataFrame, has_drifted: bool = False
) -> list[dict]:
    """Return a row for every sparsity of every line, for every score whose cliff is sought.

    Args:
        plan: the study's; its `cliffs` have split, metric and margin.
        has_drifted: as of `contrasts.contrast_rows`: then no sparsity is held.
    """
    not_held = {"held": False, "cliff": False, "non_inferior": None, "reason": DRIFTED}
    return [
        row | (not_held if has_drifted else {})
        for entry in plan["cliffs"]
        for line in _lines(rows, tall, entry["split"])
        for row in _walked(plan, entry, line, rows, tall)
    ]


def _lines(
    rows: Sequence[Row], tall: pandas.DataFrame, split: str
) -> Iterator[tuple[dict, list[tuple[str, float]]]]:
    """Yield ({model, dataset, finetune, method}, [(prune, sparsity_target)] in rising order).

    Models without a score on the split have no line; a line begins with its dense cells, at 0.
    """
    models = set(tall.loc[(tall["kind"] == "cell") & (tall["split"] == split), "model"])
    lines: dict[tuple, dict[str, float]] = {}
    for row in rows:
        if row["model"] in models and row["sparsity_target"] is not None:
            key = (*(row[name] for name in _LINE), row["method"])
            lines.setdefault(key, {})[row["prune"]] = float(row["sparsity_target"])
    for key, levels in lines.items():
        rising = sorted(levels.items(), key=lambda level: level[1])
        yield dict(zip((*_LINE, "method"), key, strict=True)), [(DENSE, 0.0), *rising]


def _walked(
    plan: Plan,
    entry: Mapping[str, Any],
    line: tuple[dict, list[tuple[str, float]]],
    rows: Sequence[Row],
    tall: pandas.DataFrame,
) -> list[dict]:
    """Return the rows of one line and score, up to the last sparsity."""
    about, levels = line
    side = {name: about[name] for name in _LINE if about[name] is not None}
    walked: list[dict] = []
    for prune, target in levels:
        own = {**side, "prune": prune}
        row = {column.name: None for column in CLIFFS}
        row |= {"study": plan["study"], **about, **entry, "prune": prune}
        row |= {"sparsity_target": target, "sparsity": _measured_sparsity(rows, own)}
        contrast = {"name": f"cliff {entry['split']} {prune}", "a": own}
        contrast |= {"b": {**side, "prune": DENSE}, **entry}
        try:
            row |= _compared(measured(plan, contrast, rows, tall), prune == DENSE)
        except PrunegridError as error:
            row |= {"reason": str(error), "non_inferior": False}
        row["held"] = row["non_inferior"] and all(lower["held"] for lower in walked)
        walked.append(row | {"cliff": False})
    held = [row for row in walked if row["held"]]
    if held:
        held[-1]["cliff"] = True
    return walked


def _compared(facts: Mapping[str, Any], is_dense: bool) -> dict[str, Any]:
    """Return the facts of one level; dense is held to itself where it is above chance."""
    at_chance = facts["at_chance"] in ("a", "both")
    row = {name: facts[name] for name in ("metric", "n", "effect", "value", "low", "high")}
    row |= {"score": facts["value_a"], "score_dense": facts["value_b"], "at_chance": at_chance}
    neutral = 1.0 if facts["effect"] == "ratio" else 0.0
    near, sign = (facts["low"], 1) if facts["_upwards"] else (facts["high"], -1)
    row["better"] = near is not None and sign * (near - neutral) > 0
    row["p_margin"] = None if is_dense else facts["p_margin"]
    within = is_dense or facts["p_margin"] <= inference.LEVEL
    return row | {"non_inferior": within and not at_chance}


def rising(rows: Sequence[Row]) -> list[str]:
    """Return a sentence for each line and score that pruning makes better: it may not need it."""
    better: dict[str, list[str]] = {}
    for row in rows:
        if row["better"]:
            line = " / ".join((row["model"], row["method"], row["finetune"]))
            score = f"{line}: {row['split']} {row['metric']}"
            better.setdefault(score, []).append(f"{row['sparsity_target']:g}")
    return [
        f"{score} is better than that of dense at {', '.join(levels)}, so it may not need what is "
        "pruned, and its cliff says little"
        for score, levels in better.items()
    ]


def _measured_sparsity(rows: Sequence[Row], side: Mapping[str, Any]) -> float | None:
    """Return the mean measured share of zeros of a side's cells, None where all failed."""
    wanted = {**side, "status": "ok"}
    chosen = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    columns = ["removed_prunable", "sparsity_effective"]
    frame = pandas.DataFrame(chosen, columns=columns).astype("Float64")
    return float(share_gone(frame).mean()) if chosen else None
