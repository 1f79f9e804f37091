"""The drawing of a figure of lines."""

from __future__ import annotations

from typing import Any

from prunegrid.tables.figures import axes
from prunegrid.tables.figures.lines import LinePanel, LinePlot, Series
from prunegrid.tables.figures.sheet import LINE, MARGIN, SMALL, TEXT, WIDTH, Sheet, fitting
from prunegrid.tables.figures.styles import (
    DENSE_BAND,
    DENSE_LINE,
    QUIET,
    Entry,
    Legend,
    Style,
    style,
)

BESIDE = 2  # panels beside each other
LEFT, GAP, TALL, FOOT = 0.85, 0.3, 2.9, 0.6  # inches
RULES = ("--", ":", "-.", (0, (5, 1)), (0, (1, 3)))  # of controls


class LineBlock:
    """Panels beside each other; lengths are in inches."""

    def __init__(self, plot: LinePlot, panels: tuple[LinePanel, ...], width: float) -> None:
        self.plot, self.panels = plot, panels
        beside = min(BESIDE, len(plot.panels))
        self.panel_width = (width - 2 * MARGIN - GAP * (beside - 1)) / beside - LEFT
        lines = any(panel.place for panel in panels) + any(panel.note for panel in panels)
        heading = axes.head_height([panel.measure for panel in panels], self.panel_width)
        self.head = heading + LINE * lines
        self.height = self.head + TALL + FOOT

    def draw(self, sheet: Sheet, top: float) -> None:
        """Draw the panels."""
        left, width = MARGIN + LEFT, self.panel_width
        for panel in self.panels:
            axis = sheet.axes(left, top + self.head, width, TALL)
            below = top
            if panel.place:
                size = fitting(panel.place, width, TEXT)
                sheet.text(left, below + LINE / 2, panel.place, size, color="0.3")
                below += LINE
            axes.heading(sheet, panel.measure, left, below, width)
            if panel.note:
                size = fitting(panel.note, width, SMALL)
                middle = top + self.head - 0.1 - LINE / 2
                sheet.text(left, middle, panel.note, size, color=QUIET)
            self._panel(axis, panel)
            left += width + GAP + LEFT

    def _panel(self, axis: Any, panel: LinePanel) -> None:
        axes.upwards(axis, panel.scale, panel.measure)
        axis.set_xlim(*panel.ends)
        axis.set_xticks([place for place, _ in panel.ticks], [text for _, text in panel.ticks])
        axis.set_xlabel(self.plot.across, fontsize=SMALL, color="0.3")
        if panel.band:
            if panel.band.low is not None:
                ends = (panel.scale.within(end) for end in (panel.band.low, panel.band.high))
                axis.axhspan(*ends, color=DENSE_BAND, linewidth=0, zorder=1)
            axis.axhline(panel.band.value, color=DENSE_LINE, linewidth=1, zorder=2)
        for name, value in panel.levels:
            look = _level_style(self.plot, name)
            level = {"color": look.colour, "linestyle": look.dashes, "linewidth": 1.2}
            axis.axhline(value, zorder=1, **level)
        for line in panel.series:
            _line(axis, panel, line)


def _line(axis: Any, panel: LinePanel, line: Series) -> None:
    look = style(line.index)
    scale = panel.scale
    places = [point.place for point in line.points]
    values = [scale.within(point.score.value) for point in line.points]
    axis.plot(places, values, color=look.colour, linestyle=look.dashes, linewidth=1.4, zorder=3)
    for point, shown in zip(line.points, values, strict=True):
        drawn = axes.Look(look.colour, look.marker, 5.0, upright=True)
        axes.value(axis, scale, point.score, point.place, drawn)
        if point.ring:
            ring = {"markersize": 13, "markerfacecolor": "none", "markeredgewidth": 1.6}
            axis.plot([point.place], [shown], "o", color=look.colour, zorder=5, **ring)


def _level_names(plot: LinePlot) -> list[str]:
    return list(dict.fromkeys(name for panel in plot.panels for name, _ in panel.levels))


def _level_style(plot: LinePlot, name: str) -> Style:
    return Style(QUIET, "", RULES[_level_names(plot).index(name) % len(RULES)])


def line_blocks(plot: LinePlot, width: float = WIDTH) -> list[Any]:
    """Return the blocks of a figure of lines: its legend, then its panels."""
    entries = [Entry(name, style(index)) for index, name in enumerate(plot.names)]
    if any(panel.band for panel in plot.panels):
        entries.append(Entry(plot.band, Style(DENSE_LINE, "", "-"), DENSE_BAND))
    for name in _level_names(plot):
        text = name if name == "chance" else f"{name} (no model)"
        entries.append(Entry(text, _level_style(plot, name)))
    blocks: list[Any] = [Legend(entries, width)]
    for start in range(0, len(plot.panels), BESIDE):
        blocks.append(LineBlock(plot, plot.panels[start : start + BESIDE], width))
    return blocks
