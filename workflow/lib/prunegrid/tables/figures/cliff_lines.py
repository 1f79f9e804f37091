"""The lines of a study that seeks cliffs, as data: a panel a model and score.

Levels stand evenly: 90, 95 and 99% would be one heap at their true places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas

from prunegrid.tables.figures import display_names, scales
from prunegrid.tables.figures.chosen_measures import Measure, measure_of
from prunegrid.tables.figures.lines import TICKS, Band, LinePanel, LinePlot, Point, Series
from prunegrid.tables.figures.points import Score

ALLOWED = "dense (line), and how much worse the margin allows (band)"
LEVELS = "zeros among prunable weights (measured), level by level"


def cliff_plot(
    cliffs: pandas.DataFrame, tall: pandas.DataFrame, scores: Mapping[tuple, Score]
) -> LinePlot:
    """Return the lines of cliffs.

    Args:
        cliffs: `cliff_rows` as a frame.
        tall: the long table.
        scores: by (*Cell.key, split, metric).
    """
    lines = list(dict.fromkeys(zip(cliffs["method"], cliffs["finetune"], strict=True)))
    tunings = {tuning for _, tuning in lines}
    names = [_name(method, tuning, len(tunings) > 1) for method, tuning in lines]
    places = list(dict.fromkeys(zip(cliffs["model"], cliffs["split"], strict=True)))
    several = len({model for model, _ in places}) > 1
    panels = []
    for model, split in places:
        rows = cliffs[(cliffs["model"] == model) & (cliffs["split"] == split)]
        if len(metrics := rows["metric"].dropna()):
            measure = measure_of(tall[tall["model"] == model], split, metrics.iloc[0])
            panels.append(_panel(model if several else "", measure, rows, scores, lines, names))
    return LinePlot(tuple(panels), tuple(names), ALLOWED, LEVELS)


def _name(method: str, tuning: str, several: bool) -> str:
    if not several:
        return display_names.method_name(method)
    tuned = display_names.UNTUNED if tuning == "none" else display_names.arm_name(tuning)
    return f"{display_names.method_name(method)}, {tuned}"


def _panel(
    place: str,
    measure: Measure,
    rows: pandas.DataFrame,
    scores: Mapping[tuple, Score],
    lines: Sequence[tuple[str, str]],
    names: Sequence[str],
) -> LinePanel:
    levels = sorted(rows["sparsity_target"].astype(float).unique())
    series, cliffs = [], {}
    for index, (method, tuning) in enumerate(lines):
        line = rows[(rows["method"] == method) & (rows["finetune"] == tuning)]
        points = tuple(_points(line, levels, measure, scores))
        if points:
            series.append(Series(names[index], index, points))
        if len(line):
            cliffs[names[index]] = next((p.place for p in points if p.ring), None)
    told = {
        name: "no cliff found"
        if place is None
        else f"cliff at {display_names.percent(levels[place])}"
        for name, place in cliffs.items()
    }
    note = "; ".join(f"{name}: {text}" if len(told) > 1 else text for name, text in told.items())
    band = _band(rows, measure)
    shown = [point.score for line in series for point in line.points]
    around = [end for end in (band.low, band.high) if end is not None] if band else []
    chance = [] if measure.chance is None else [measure.chance]
    around += chance
    scale = scales.fit(shown, log=measure.wants_log, levels=around, ticks=TICKS, clip=False)
    return LinePanel(
        place,
        measure,
        scale,
        tuple(series),
        (-0.3, len(levels) - 0.7),
        tuple((number, _tick(rows, level)) for number, level in enumerate(levels)),
        band,
        tuple(("chance", level) for level in chance if not scale.beyond(level)),
        note,
    )


def _points(
    line: pandas.DataFrame,
    levels: Sequence[float],
    measure: Measure,
    scores: Mapping[tuple, Score],
) -> list[Point]:
    found = []
    for _, row in line.sort_values("sparsity_target").iterrows():
        dataset = None if pandas.isna(row["dataset"]) else row["dataset"]
        key = (row["model"], dataset, row["prune"], row["finetune"], *measure.key)
        if key in scores:
            is_cliff = not pandas.isna(row["cliff"]) and bool(row["cliff"])
            found.append(Point(levels.index(row["sparsity_target"]), scores[key], is_cliff))
    return found


def _band(rows: pandas.DataFrame, measure: Measure) -> Band | None:
    """Return the dense model's score, and how much worse than it the margin allows."""
    dense = rows["score_dense"].dropna().astype(float)
    if not len(dense):
        return None
    value, margin = float(dense.iloc[0]), float(rows["margin"].iloc[0])
    if measure.wants_log:
        return Band(value, value, value * (1 + margin))
    if measure.higher_is_better is False:
        return Band(value, value, value + margin)
    return Band(value, value - margin, value)


def _tick(rows: pandas.DataFrame, level: float) -> str:
    """Return the measured sparsity of a level; what was asked where none was made."""
    found = rows.loc[rows["sparsity_target"].astype(float) == level, "sparsity"].dropna()
    return f"{100 * (float(found.mean()) if len(found) else level):.1f}%".replace(".0%", "%")
