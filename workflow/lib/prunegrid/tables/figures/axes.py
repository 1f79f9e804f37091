"""What panels of all kinds share: their heading, their axis of values, a value with its bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prunegrid.tables.figures import labels
from prunegrid.tables.figures.measures import Measure
from prunegrid.tables.figures.points import Score
from prunegrid.tables.figures.scales import Scale
from prunegrid.tables.figures.sheet import LINE, SMALL, TEXT, Sheet, fitting, wrapped
from prunegrid.tables.figures.styles import QUIET

FOOT = 0.55  # inches below a panel: ticks, and which way is better


def title_lines(measure: Measure, room: float) -> list[str]:
    """Return the lines of a panel's title."""
    return wrapped(labels.measure_name(measure.split, measure.metric), room, TEXT, "bold")


def head_height(measures: Sequence[Measure], room: float) -> float:
    """Return the inches that the headings of panels beside each other need."""
    lines = max((len(title_lines(measure, room)) for measure in measures), default=0)
    return 0.1 + LINE * (lines + 1)


def heading(sheet: Sheet, measure: Measure, left: float, top: float, room: float) -> None:
    """Write the title of a panel and how many items its values are means over."""
    lines = title_lines(measure, room)
    for index, line in enumerate(lines):
        size = fitting(line, room, TEXT, "bold")
        sheet.text(left, top + LINE * (index + 0.5), line, size, weight="bold")
    items = labels.items_name(measure.metric, measure.n, measure.is_task)
    below = top + LINE * (len(lines) + 0.5)
    sheet.text(left, below, items, fitting(items, room, SMALL), color=QUIET)


def across(axis: Any, scale: Scale, measure: Measure) -> None:
    """Prepare a panel whose values run from left to right."""
    axis.set_xscale("log" if scale.is_log else "linear")
    axis.set_xlim(scale.low, scale.high)
    _ticks(axis, axis.xaxis, scale)
    axis.set_xlabel(_direction(measure, scale, ("← ", " →")), fontsize=SMALL, color="0.3")
    if measure.chance is not None and not scale.beyond(measure.chance):
        axis.axvline(measure.chance, color=QUIET, linestyle=":", linewidth=1.2, zorder=2)
        axis.text(
            measure.chance, 1.0, "chance", fontsize=SMALL, color=QUIET,
            transform=axis.get_xaxis_transform(), ha="center", va="bottom",
        )  # fmt: skip


def upwards(axis: Any, scale: Scale, measure: Measure) -> None:
    """Prepare a panel whose values run from the bottom to the top."""
    axis.set_yscale("log" if scale.is_log else "linear")
    axis.set_ylim(scale.low, scale.high)
    _ticks(axis, axis.yaxis, scale)
    axis.set_ylabel(_direction(measure, scale, ("← ", " →")), fontsize=SMALL, color="0.3")


def _ticks(axis: Any, side: Any, scale: Scale) -> None:
    from matplotlib.ticker import NullLocator

    side.set_minor_locator(NullLocator())
    side.set_ticks(list(scale.ticks), scale.labels())
    axis.tick_params(labelsize=SMALL, length=3, color="0.6")
    for name in ("top", "right"):
        axis.spines[name].set_visible(False)
    for name in ("left", "bottom"):
        axis.spines[name].set_color("0.6")
    axis.grid(axis=side.axis_name, color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)


def _direction(measure: Measure, scale: Scale, arrows: tuple[str, str]) -> str:
    """Return which way is better, with an arrow that points there; and if it is a log scale."""
    text = labels.direction(measure.higher_is_better)
    if measure.higher_is_better is not None:
        text = f"{text}{arrows[1]}" if measure.higher_is_better else f"{arrows[0]}{text}"
    return f"{text} (log scale)" if scale.is_log else text


def horizontal(
    axis: Any, scale: Scale, score: Score, height: float, *,
    colour: str, marker: str, hollow: bool, small: bool, below: float,
) -> None:  # fmt: skip
    """Draw a value with its interval and its seeds; one beyond the axis as an arrow at the edge."""
    size = 4.5 if small else 6
    if score.low is not None and not scale.beyond(score.value):
        ends = [scale.within(score.low), scale.within(score.high)]
        axis.plot(ends, [height] * 2, color=colour, linewidth=1.3 if small else 2, zorder=3)
        for end in (score.low, score.high):
            if side := scale.beyond(end):
                arrow = "<" if side == "low" else ">"
                axis.plot([scale.within(end)], [height], arrow, color=colour, markersize=4,
                          clip_on=False, zorder=3)  # fmt: skip
    side = scale.beyond(score.value)
    if side:
        arrow, align, step = ("<", "left", 6) if side == "low" else (">", "right", -6)
        axis.plot([scale.within(score.value)], [height], arrow, color=colour, markersize=7,
                  clip_on=False, zorder=4)  # fmt: skip
        axis.annotate(
            labels.number(score.value), (scale.within(score.value), height), (step, 0),
            textcoords="offset points", ha=align, va="center", fontsize=SMALL, color=colour,
        )  # fmt: skip
        return
    face = "white" if hollow else colour
    axis.plot([score.value], [height], marker, color=colour, markersize=size,
              markerfacecolor=face, clip_on=False, zorder=4)  # fmt: skip
    if len(score.seeds) > 1:
        seeds = [seed for seed in score.seeds if not scale.beyond(seed)]
        axis.plot(seeds, [height + below] * len(seeds), "o", color=colour, markersize=2.2,
                  alpha=0.6, markeredgewidth=0, zorder=3)  # fmt: skip


def vertical(axis: Any, scale: Scale, score: Score, place: float, colour: str, marker: str) -> None:
    """Draw a value with its interval and its seeds; one beyond the axis as an arrow at the edge."""
    side = scale.beyond(score.value)
    if side:
        arrow, step = ("v", 9) if side == "low" else ("^", -9)
        axis.plot([place], [scale.within(score.value)], arrow, color=colour, markersize=7,
                  clip_on=False, zorder=4)  # fmt: skip
        axis.annotate(
            labels.number(score.value), (place, scale.within(score.value)), (-7, step / 3),
            textcoords="offset points", ha="right", va="center", fontsize=SMALL, color=colour,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip
        return
    if score.low is not None:
        ends = [scale.within(score.low), scale.within(score.high)]
        axis.plot([place] * 2, ends, color=colour, linewidth=1.4, zorder=3)
    axis.plot([place], [score.value], marker, color=colour, markersize=5.5, zorder=4)
    if len(score.seeds) > 1:
        seeds = [seed for seed in score.seeds if not scale.beyond(seed)]
        axis.plot([place] * len(seeds), seeds, "o", color=colour, markersize=2.4, alpha=0.6,
                  markeredgewidth=0, zorder=3)  # fmt: skip
