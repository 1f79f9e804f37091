"""Parts of panels of all kinds: the heading, the axis of values, a value with its bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prunegrid.tables.figures import display_names
from prunegrid.tables.figures.points import Score
from prunegrid.tables.figures.scales import Scale
from prunegrid.tables.figures.sheet import LINE, SMALL, TEXT, Sheet, fitting, wrapped
from prunegrid.tables.figures.styles import QUIET
from prunegrid.tables.headline import Measure

FOOT = 0.55  # inches below a panel: ticks, and which way is better


def head_height(measures: Sequence[Measure], room: float) -> float:
    """Return the inches that the headings of panels beside each other need."""
    lines = max((len(_title_lines(measure, room)) for measure in measures), default=0)
    return 0.1 + LINE * (lines + 1)


def heading(sheet: Sheet, measure: Measure, left: float, top: float, room: float) -> None:
    """Write the title of a panel and how many items its values are means over."""
    lines = _title_lines(measure, room)
    middles = [top + LINE * (index + 0.5) for index in range(len(lines) + 1)]
    for line, middle in zip(lines, middles, strict=False):
        sheet.text(left, middle, line, fitting(line, room, TEXT, "bold"), weight="bold")
    items = display_names.items_name(measure.metric, measure.n, measure.is_task)
    sheet.text(left, middles[-1], items, fitting(items, room, SMALL), color=QUIET)


def _title_lines(measure: Measure, room: float) -> list[str]:
    return wrapped(display_names.measure_name(*measure.key), room, TEXT, "bold")


def across(axis: Any, scale: Scale, measure: Measure) -> None:
    """Prepare a panel whose values run from left to right."""
    axis.set_xscale("log" if scale.is_log else "linear")
    axis.set_xlim(scale.low, scale.high)
    _ticks(axis, axis.xaxis, scale, measure)
    if measure.chance is not None and not scale.beyond(measure.chance):
        axis.axvline(measure.chance, color=QUIET, linestyle=":", linewidth=1.2, zorder=2)
        place = {"transform": axis.get_xaxis_transform(), "ha": "center", "va": "bottom"}
        axis.text(measure.chance, 1.0, "chance", fontsize=SMALL, color=QUIET, **place)


def upwards(axis: Any, scale: Scale, measure: Measure) -> None:
    """Prepare a panel whose values run from the bottom to the top."""
    axis.set_yscale("log" if scale.is_log else "linear")
    axis.set_ylim(scale.low, scale.high)
    _ticks(axis, axis.yaxis, scale, measure)


def _ticks(axis: Any, side: Any, scale: Scale, measure: Measure) -> None:
    from matplotlib.ticker import NullLocator

    side.set_minor_locator(NullLocator())
    side.set_ticks(list(scale.ticks), scale.labels())
    side.set_label_text(_direction(measure, scale), fontsize=SMALL, color="0.3")
    axis.tick_params(labelsize=SMALL, length=3, color="0.6")
    for name in ("top", "right"):
        axis.spines[name].set_visible(False)
    for name in ("left", "bottom"):
        axis.spines[name].set_color("0.6")
    axis.grid(axis=side.axis_name, color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)


def _direction(measure: Measure, scale: Scale) -> str:
    """Return which way is better, with an arrow that points there; and if it is a log scale."""
    text = display_names.direction(measure.higher_is_better)
    if measure.higher_is_better is not None:
        text = f"{text} →" if measure.higher_is_better else f"← {text}"
    return f"{text} (log scale)" if scale.is_log else text


@dataclass(frozen=True)
class Look:
    """The look of a value."""

    colour: str
    marker: str
    size: float  # of its marker, in points
    hollow: bool = False
    upright: bool = False  # whether values run from the bottom to the top
    aside: float = 0.0  # distance of its seeds from the value, in the other direction's unit


def value(axis: Any, scale: Scale, score: Score, place: float, look: Look) -> None:
    """Draw a value with its interval and its seeds; one beyond the axis as an arrow at the edge."""
    if scale.beyond(score.value):
        _arrow(axis, scale, score.value, place, look, 7)
        _number(axis, scale, score.value, place, look)
        return
    if score.low is not None:
        ends = [scale.within(score.low), scale.within(score.high)]
        _plot(axis, ends, place, look, "-", linewidth=look.size / 3)
        for end in (score.low, score.high):
            if scale.beyond(end):
                _arrow(axis, scale, end, place, look, 4)
    face = "white" if look.hollow else look.colour
    dot = {"markersize": look.size, "markerfacecolor": face, "clip_on": False}
    _plot(axis, [score.value], place, look, look.marker, **dot)
    if len(score.seeds) > 1:
        seeds = [seed for seed in score.seeds if not scale.beyond(seed)]
        small = {"markersize": 2.3, "alpha": 0.6, "markeredgewidth": 0}
        _plot(axis, seeds, place + look.aside, look, "o", **small)


def _plot(
    axis: Any, values: Sequence[float], place: float, look: Look, form: str, **named: Any
) -> None:
    """Draw values at one place."""
    pair = (values, [place] * len(values))
    across, up = reversed(pair) if look.upright else pair
    axis.plot(across, up, form, color=look.colour, zorder=4 if len(values) == 1 else 3, **named)


def _arrow(axis: Any, scale: Scale, value: float, place: float, look: Look, size: float) -> None:
    """Draw an arrow at the end of the axis that a value lies beyond."""
    low, high = "v^" if look.upright else "<>"
    form = low if scale.beyond(value) == "low" else high
    _plot(axis, [scale.within(value)], place, look, form, markersize=size, clip_on=False)


def _number(axis: Any, scale: Scale, value: float, place: float, look: Look) -> None:
    """Write a value that lies beyond the axis beside its arrow, inside the panel."""
    inwards = 1 if scale.beyond(value) == "low" else -1
    edge = scale.within(value)
    axis.annotate(
        display_names.number(value),
        (place, edge) if look.upright else (edge, place),
        (-7, 3 * inwards) if look.upright else (7 * inwards, 0),
        textcoords="offset points",
        ha="left" if inwards > 0 and not look.upright else "right",
        va="center",
        fontsize=SMALL,
        color=look.colour,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5} if look.upright else None,
    )
