"""Scores against measured sparsity with their cliffs: the figure of a study that seeks them.

A panel a model and score. Points are cells with the 95% intervals of their own scores, joined by
method and fine-tuning; the band is what the margin allows around dense's score, the vertical line
the cliff. Sparsity is drawn evenly by level: 90, 95 and 99% would be one heap on a linear axis.
"""

from __future__ import annotations

from typing import Any

import pandas

from prunegrid.tables.colours import MARKERS, PALETTE
from prunegrid.tables.render import is_perplexity

IN_A_ROW = 2
_CELL = ["model", "dataset", "prune", "finetune"]


def draw_cliffs(cliffs: pandas.DataFrame, tall: pandas.DataFrame, title: str) -> Any:
    """Return the figure.

    Args:
        cliffs: `cliff_rows` as a frame.
        tall: the long table: scores with their intervals, and levels of chance.
    """
    from matplotlib import pyplot

    panels = list(dict.fromkeys(zip(cliffs["model"], cliffs["split"], strict=True)))
    lines = -(-len(panels) // IN_A_ROW)
    figure, axes = pyplot.subplots(
        lines, IN_A_ROW, figsize=(6.4 * IN_A_ROW, 4.2 * lines), squeeze=False
    )
    for axis, (model, split) in zip(axes.flat, panels, strict=False):
        picked = (cliffs["model"] == model) & (cliffs["split"] == split)
        _panel(axis, cliffs[picked], tall)
        axis.set_title(model)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle(title)
    figure.tight_layout()
    return figure


def _panel(axis: Any, rows: pandas.DataFrame, tall: pandas.DataFrame) -> None:
    metrics = rows["metric"].dropna()
    metric = metrics.iloc[0] if len(metrics) else None
    split, margin = rows["split"].iloc[0], float(rows["margin"].iloc[0])
    levels = sorted(rows["sparsity_target"].astype(float).unique())
    places = {level: place for place, level in enumerate(levels)}
    measured = tall[(tall["kind"] == "cell") & (tall["split"] == split)]
    measured = measured[measured["metric"] == metric]
    logs = metric is not None and is_perplexity(metric)
    by = ["method", "finetune"]
    for number, ((method, tuning), line) in enumerate(rows.groupby(by, sort=False)):
        colour = PALETTE[number % len(PALETTE)]
        points = line.merge(measured, on=_CELL, how="inner", suffixes=("", "_cell"))
        value = points["value_cell"].astype(float)
        low = points["low_cell"].astype(float).fillna(value)
        high = points["high_cell"].astype(float).fillna(value)
        axis.errorbar(
            points["sparsity_target"].astype(float).map(places),
            value,
            yerr=[(value - low).clip(lower=0), (high - value).clip(lower=0)],
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            capsize=3,
            label=f"{method} / {tuning}",
        )
        cliff = line[line["cliff"].fillna(False).astype(bool)]
        if len(cliff):
            level = float(cliff["sparsity_target"].iloc[0])
            axis.axvline(places[level], color=colour, linestyle="--", label=f"cliff: {level:.0%}")
    dense = rows["score_dense"].dropna().astype(float)
    if len(dense):
        around = dense.iloc[0]
        bounds = (around, around * (1 + margin)) if logs else (around - margin, around)
        axis.axhspan(*bounds, color="0.85", label=f"margin {margin:g}", zorder=0)
    chance = measured["chance"].dropna().unique()
    if len(chance) == 1 and not logs:
        axis.axhline(chance[0], color="0.4", linestyle=":", linewidth=1, label="chance")
    if logs:
        axis.set_yscale("log")
    axis.set_xticks(range(len(levels)), [_tick(rows, level) for level in levels])
    axis.set_xlabel("zeros among prunable weights, measured (%)")
    axis.set_ylabel(f"{metric} ({split})")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)


def _tick(rows: pandas.DataFrame, level: float) -> str:
    """Return the measured sparsity of a level in percent; what was asked where none was made."""
    found = rows.loc[rows["sparsity_target"].astype(float) == level, "sparsity"].dropna()
    return f"{100 * (float(found.mean()) if len(found) else level):.1f}"
