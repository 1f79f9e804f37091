"""The figures of a census: shares by bin, a bar a cell; and over depth, a line a bin.

Counts are exact, so there are no intervals to draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pandas

from prunegrid.tables.figures import sheet
from prunegrid.tables.figures.styles import MARKERS, PALETTE
from prunegrid.tables.schema import CELL, Plan, Row

SCALES = ("linear", "log")


def save(draw: Callable, plan: Plan, frame: pandas.DataFrame, path: Path, form: str) -> None:
    """Draw a figure into a file: "png" or "svg"."""
    with sheet.defaults():
        figure = draw(frame[frame["status"] == "ok"], plan["title"] or plan["study"])
    sheet.save(figure, path, form, plan["study"])


def draw_bars(frame: pandas.DataFrame, title: str) -> Any:
    """Return a figure: the share of each bin, with embeddings and without, a bar a cell."""
    groups = [g for g in dict.fromkeys(frame["group"]) if g not in ("block", "kind")]
    figure, axes = _panels(len(groups) or 1, len(SCALES))
    for line, group in zip(axes, groups, strict=False):
        rows = frame[frame["group"] == group]
        for axis, scale in zip(line, SCALES, strict=True):
            _bars(axis, rows, scale)
            axis.set_title(f"{group} ({scale})")
    return _finished(figure, title)


def _bars(axis: Any, rows: pandas.DataFrame, scale: str) -> None:
    series = list(by_cell(rows))
    labels = list(dict.fromkeys(rows["bin"]))
    width = 0.8 / len(series)
    for index, (name, own) in enumerate(series):
        axis.bar(
            numpy.arange(len(labels)) + (index - (len(series) - 1) / 2) * width,
            100 * own["share"].astype(float),
            width,
            color=PALETTE[index % len(PALETTE)],
            hatch=("", "///", "...")[index // len(PALETTE) % 3],
            edgecolor="black",
            linewidth=0.3,
            label=name,
        )
    axis.set_xticks(range(len(labels)), labels, rotation=35, ha="right", fontsize=8)
    axis.set_yscale(scale)
    axis.set_xlabel("|w|")
    axis.set_ylabel("share of parameters (%)")
    axis.grid(alpha=0.3, axis="y")


def draw_depth(frame: pandas.DataFrame, title: str) -> Any:
    """Return a figure: the share of each bin over the depth, a panel a stack of blocks."""
    rows = frame[frame["depth"].notna()]
    panels = [
        (f"{name}: {stack}", own[own["stack"] == stack])
        for name, own in by_cell(rows)
        for stack in dict.fromkeys(own["stack"])
    ]
    figure, axes = _panels(-(-len(panels) // 2) or 1, 2, sharey=True)
    for axis, (name, own) in zip(axes.flat, panels, strict=False):
        _depth(axis, own)
        axis.set_title(name, fontsize=9)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    return _finished(figure, title)


def _panels(lines: int, columns: int, **named: Any) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5 * columns, 4.2 * lines + 0.6), layout="constrained")
    return figure, figure.subplots(lines, columns, squeeze=False, **named)


def _finished(figure: Any, title: str) -> Any:
    """Return the figure with its title, and one legend below all panels, where it hides nothing."""
    figure.suptitle(title)
    named: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    if named:
        figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=5, fontsize=8)
    return figure


def _depth(axis: Any, rows: pandas.DataFrame) -> None:
    import matplotlib

    labels = list(dict.fromkeys(rows["bin"]))
    # The bins are in order: so are the colours, from dark to light in one that all can tell apart.
    colours = matplotlib.colormaps["viridis"](numpy.linspace(0, 0.95, len(labels)))
    for index, label in enumerate(labels):
        own = rows[rows["bin"] == label].sort_values("depth")
        share = 100 * own["share"].astype(float)
        axis.plot(
            own["depth"].astype(float),
            share.where(share > 0),  # a logarithm has no place for none
            color=colours[index],
            marker=MARKERS[index % len(MARKERS)],
            markersize=4,
            linewidth=1.2,
            linestyle="--" if label == "0" else "-",
            zorder=3 if label == "0" else 2,
            label="w = 0" if label == "0" else f"|w| in {label}",
        )
    axis.set_xlim(0, 1)
    axis.set_yscale("log")
    axis.set_xlabel("relative depth of the block: (index + 1/2) / blocks")
    axis.set_ylabel("share of the block's parameters (%)")
    axis.grid(alpha=0.3)


def cell_name(row: Row) -> str:
    """Return a cell's name: its model, the steps that it had, its seed."""
    steps = [row["model"]]
    steps += [
        row[step] for step, idle in (("prune", "dense"), ("finetune", "none")) if row[step] != idle
    ]
    steps += [] if pandas.isna(row["seed"]) else [f"seed {row['seed']}"]
    return " / ".join(steps)


def by_cell(rows: pandas.DataFrame) -> Iterator[tuple[str, pandas.DataFrame]]:
    """Yield (name, rows) of each cell, in the order of the study."""
    for _, own in rows.groupby(list(CELL), sort=False, dropna=False):
        yield cell_name(own.iloc[0]), own


FIGURES = {"": draw_bars, "depth.": draw_depth}
