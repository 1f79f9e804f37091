"""The lines of a study that seeks cliffs, as data: a panel a model and score.

Levels stand evenly: 90, 95 and 99% would be one heap at their true places.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas

from prunegrid.tables.figures import display_names, scales
from prunegrid.tables.figures.lines import TICKS, LinePanel, LinePlot, Point, Series
from prunegrid.tables.figures.points import KEYS, Score, Scores
from prunegrid.tables.headline import Measure, measure_of

ALLOWED = "dense (line), and how much worse the margin allows (band)"
LEVELS = "zeros among prunable weights (measured), level by level"


def cliff_plot(cliffs: pandas.DataFrame, tall: pandas.DataFrame, scores: Scores) -> LinePlot:
    """Return the lines of cliffs."""
    lines = list(dict.fromkeys(zip(cliffs["method"], cliffs["finetune"], strict=True)))
    several = len({tuning for _, tuning in lines}) > 1
    names = [_name(method, tuning, several) for method, tuning in lines]
    panels = []
    for (model, split), rows in cliffs.groupby(["model", "split"], sort=False):
        if len(metrics := rows["metric"].dropna()):
            measure = measure_of(tall[tall["model"] == model], split, metrics.iloc[0])
            place = model if cliffs["model"].nunique() > 1 else ""
            panels.append(
                _panel(place, measure, rows, scores, dict(zip(lines, names, strict=True)))
            )
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
    scores: Scores,
    names: dict[tuple[str, str], str],
) -> LinePanel:
    levels = sorted(rows["sparsity_target"].astype(float).unique())
    series, notes = [], []
    for index, ((method, tuning), name) in enumerate(names.items()):
        line = rows[(rows["method"] == method) & (rows["finetune"] == tuning)]
        if len(line):
            points = tuple(_points(line, levels, measure, scores))
            series += [Series(name, index, points)] if points else []
            cliff = next((levels[point.place] for point in points if point.ring), None)
            text = "no cliff found" if cliff is None else f"cliff at {display_names.percent(cliff)}"
            notes.append((name, text))
    several = len(notes) > 1
    band = _band(rows, measure)
    chance = [] if measure.chance is None else [measure.chance]
    scale = scales.fit(
        [point.score for line in series for point in line.points],
        log=measure.wants_log,
        levels=[*([band.low, band.high] if band else []), *chance],
        ticks=TICKS,
        clip=False,
    )
    return LinePanel(
        place,
        measure,
        scale,
        tuple(series),
        (-0.3, len(levels) - 0.7),
        tuple((number, _tick(rows, level)) for number, level in enumerate(levels)),
        band,
        tuple(("chance", level) for level in chance if not scale.beyond(level)),
        "; ".join(f"{name}: {text}" if several else text for name, text in notes),
    )


def _points(
    line: pandas.DataFrame, levels: Sequence[float], measure: Measure, scores: Scores
) -> list[Point]:
    points = []
    for _, row in line.sort_values("sparsity_target").iterrows():
        cell = (None if pandas.isna(row[name]) else row[name] for name in KEYS)
        score = scores.get((*cell, *measure.key))
        if score:
            is_cliff = not pandas.isna(row["cliff"]) and bool(row["cliff"])
            points.append(Point(levels.index(row["sparsity_target"]), score, is_cliff))
    return points


def _band(rows: pandas.DataFrame, measure: Measure) -> Score | None:
    """Return the dense model's score, and how much worse than it the margin allows."""
    dense = rows["score_dense"].dropna().astype(float)
    if not len(dense):
        return None
    value, margin = float(dense.iloc[0]), float(rows["margin"].iloc[0])
    if measure.wants_log:
        return Score(value, value, value * (1 + margin), (value,))
    if measure.higher_is_better is False:
        return Score(value, value, value + margin, (value,))
    return Score(value, value - margin, value, (value,))


def _tick(rows: pandas.DataFrame, level: float) -> str:
    """Return the measured sparsity of a level, its target if no cell was made."""
    measured = rows.loc[rows["sparsity_target"].astype(float) == level, "sparsity"].dropna()
    return f"{100 * (float(measured.mean()) if len(measured) else level):.1f}%".replace(".0%", "%")
