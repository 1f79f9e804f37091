"""Drawing a dot plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prunegrid.tables.figures import axes, display_names, legend
from prunegrid.tables.figures.dots import DotPlot, Heading, Mark, Panel, Row
from prunegrid.tables.figures.sheet import LINE, MARGIN, SMALL, TEXT, WIDTH, Sheet, width_of
from prunegrid.tables.figures.styles import (
    DENSE_BAND,
    DENSE_LINE,
    PALETTE,
    QUIET,
    RULE,
    STRIPE,
    Style,
    style,
)

BESIDE = 3  # panels beside each other; more of them go below
GAP = 0.22  # inches between columns
NUMBERS = 0.56  # inches for the column of numbers beside a panel
LEAST = 1.9  # inches that the narrowest panel has
ROW, LOW_ROW, LANE = 0.25, 0.18, 0.085  # inches
MANY = 40  # rows from which on they are low


@dataclass(frozen=True)
class DotBlock:
    """Panels beside each other over the same rows."""

    plot: DotPlot
    panels: tuple[Panel, ...]
    width: float

    @property
    def row(self) -> float:
        """Return the height of a row in inches."""
        if self.plot.is_compact:
            return 0.12 + LANE * len(self.plot.lanes)
        return LOW_ROW if len(self.plot.lines) > MANY else ROW

    @property
    def head(self) -> float:
        """Return the height above the rows."""
        levels = any(panel.measure.chance is not None for panel in self.panels)
        height = axes.head_height([p.measure for p in self.panels], self.panel_width)
        return height + LINE * levels

    @property
    def height(self) -> float:
        """Return its height in inches."""
        return self.head + self.row * len(self.plot.lines) + axes.FOOT

    @property
    def panel_width(self) -> float:
        """Return the width of a panel in inches, without its numbers."""
        room = self.width - 2 * MARGIN - sum(columns(self.plot)) - GAP
        beside = min(BESIDE, len(self.plot.panels))
        numbers = 0 if self.plot.is_compact else NUMBERS
        return (room - GAP * (beside - 1)) / beside - numbers

    def draw(self, sheet: Sheet, top: float) -> None:
        """Draw the names of the rows, then the panels."""
        size = SMALL if self.row < ROW and not self.plot.is_compact else TEXT
        first = top + self.head
        self._names(sheet, first, size)
        left = MARGIN + sum(columns(self.plot)) + GAP
        numbers = 0 if self.plot.is_compact else NUMBERS
        for panel in self.panels:
            axis = sheet.axes(left, first, self.panel_width, self.row * len(self.plot.lines))
            self._panel(sheet, axis, panel, left, top)
            left += self.panel_width + numbers + GAP

    def _names(self, sheet: Sheet, top: float, size: float) -> None:
        name_width, _ = columns(self.plot)
        indent = _indent(self.plot)
        for index, line in enumerate(self.plot.lines):
            middle = top + self.row * (index + 0.5)
            if isinstance(line, Heading):
                left = MARGIN + (0 if line.level == 0 else indent - 0.12)
                weight = "bold" if line.level == 0 else "normal"
                style = "normal" if line.level == 0 else "italic"
                sheet.text(left, middle, line.text, size, weight=weight, style=style)
                continue
            colour = QUIET if all(line.failed) and line.failed else "black"
            sheet.text(MARGIN + indent, middle, line.name, size, color=colour)
            sheet.text(MARGIN + name_width, middle, _words(line), size - 1, color=QUIET)

    def _panel(self, sheet: Sheet, axis: Any, panel: Panel, left: float, top: float) -> None:
        axes.heading(sheet, panel.measure, left, top, self.panel_width)
        axes.across(axis, panel.scale, panel.measure)
        axis.set_ylim(len(self.plot.lines), 0)
        axis.set_yticks([])
        rows = [i for i, line in enumerate(self.plot.lines) if isinstance(line, Row)]
        for index, number in enumerate(rows):
            if not self.plot.is_compact:
                axis.axhline(number + 0.5, color=RULE, linewidth=0.8, zorder=0)
            elif index % 2 == 0:
                axis.axhspan(number, number + 1, color=STRIPE, linewidth=0, zorder=0)
        for band in panel.bands:
            score = band.score
            side = [band.first, band.last + 1]
            if score.low is not None:
                ends = [panel.scale.within(end) for end in (score.low, score.high)]
                axis.fill_betweenx(side, *ends, color=DENSE_BAND, linewidth=0, zorder=1)
            axis.plot([score.value] * 2, side, color=DENSE_LINE, linewidth=1, zorder=2)
        for mark in panel.marks:
            self._mark(sheet, axis, panel, mark, left, top)
        self._failures(axis)

    def _failures(self, axis: Any) -> None:
        """Write "failed" into the rows of failed cells; in a compact plot draw a cross."""
        place = {"transform": axis.get_yaxis_transform(), "zorder": 4}
        told = {"fontsize": SMALL, "style": "italic", "ha": "center", "va": "center"}
        for number in (i for i, line in enumerate(self.plot.lines) if isinstance(line, Row)):
            for lane in (i for i, failed in enumerate(self.plot.lines[number].failed) if failed):
                height = self._middle(number, lane)
                if self.plot.is_compact:
                    cross = {"color": style(lane).colour, "markersize": 4}
                    axis.plot([0.015], [height], "x", **cross, **place)
                else:
                    axis.text(0.5, height, "failed", color=QUIET, **told, **place)

    def _middle(self, line: int, lane: int) -> float:
        """Return the height of a lane, in rows from the top."""
        lanes = len(self.plot.lanes)
        return line + 0.5 + (lane - (lanes - 1) / 2) * LANE / self.row

    def _mark(
        self, sheet: Sheet, axis: Any, panel: Panel, mark: Mark, left: float, top: float
    ) -> None:
        line = self.plot.lines[mark.line]
        lanes = len(self.plot.lanes)
        height = self._middle(mark.line, mark.lane)
        look = style(mark.lane)
        control = isinstance(line, Row) and line.control
        colour = QUIET if control else look.colour if lanes > 1 else PALETTE[0]
        marker, size, aside = (look.marker, 4.5, 0.0) if lanes > 1 else ("o", 6.0, 0.3)
        drawn = axes.Look(colour, marker, size, hollow=bool(control), aside=aside)
        axes.value(axis, panel.scale, mark.score, height, drawn)
        if lanes == 1:
            text = display_names.number(mark.score.value)
            place = left + self.panel_width + NUMBERS
            middle = top + self.head + self.row * (mark.line + 0.5)
            sheet.text(place, middle, text, SMALL, color="0.25", ha="right")


def _words(row: Row) -> str:
    """Return what stands beside a row's name; that all of it failed, its panels say."""
    note = "" if row.failed and all(row.failed) else row.note
    return "; ".join(filter(None, (row.about, note)))


def _indent(plot: DotPlot) -> float:
    """Return how far the names of rows stand to the right of the sections' names."""
    return 0.2 if any(isinstance(line, Heading) for line in plot.lines) else 0.0


def columns(plot: DotPlot) -> tuple[float, float]:
    """Return the widths of the columns of names and of plain words, in inches."""
    rows = [line for line in plot.lines if isinstance(line, Row)]
    heads = [line for line in plot.lines if isinstance(line, Heading)]
    name = max([width_of(row.name) for row in rows], default=0) + _indent(plot) + 0.15
    about = max([width_of(_words(row), TEXT - 1) for row in rows], default=0)
    head = max([width_of(line.text, TEXT, "bold") for line in heads], default=0)
    return name, max(about, head - name)


def dot_blocks(plot: DotPlot) -> tuple[float, list[Any]]:
    """Return the width of the page that a dot plot needs, and its blocks."""
    beside = min(BESIDE, len(plot.panels))
    needed = MARGIN * 2 + sum(columns(plot)) + beside * (LEAST + NUMBERS + GAP)
    width = max(WIDTH, needed)
    blocks: list[Any] = []
    if plot.is_compact:
        entries = [legend.Entry(name, style(i)) for i, name in enumerate(plot.lanes)]
        if any(any(line.failed) for line in plot.lines if isinstance(line, Row)):
            entries.append(legend.Entry("failed", Style(QUIET, "x", "")))
        blocks.append(legend.Legend(tuple(entries), width))
    for start in range(0, len(plot.panels), BESIDE):
        blocks.append(DotBlock(plot, tuple(_slice(plot.panels, start)), width))
    return width, blocks


def _slice(panels: Sequence[Panel], start: int) -> Sequence[Panel]:
    return panels[start : start + BESIDE]
