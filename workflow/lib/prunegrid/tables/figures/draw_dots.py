"""The drawing of a dot plot."""

from __future__ import annotations

from typing import Any

from prunegrid.tables.figures import axes, display_names
from prunegrid.tables.figures.dots import DotPlot, Heading, Panel, Row
from prunegrid.tables.figures.sheet import LINE, MARGIN, SMALL, TEXT, WIDTH, Sheet, width_of
from prunegrid.tables.figures.styles import (
    DENSE_BAND,
    DENSE_LINE,
    PALETTE,
    QUIET,
    RULE,
    STRIPE,
    Entry,
    Legend,
    Style,
    style,
)

BESIDE = 3  # panels beside each other; more of them go below
GAP = 0.22  # inches between columns
NUMBERS = 0.56  # inches for the column of numbers beside a panel
LEAST = 1.9  # inches that the narrowest panel has
ROW, LOW_ROW, LANE = 0.25, 0.18, 0.085  # inches
MANY = 40  # rows from which on they are low


class DotBlock:
    """Panels beside each other over the same rows; lengths are in inches."""

    def __init__(self, plot: DotPlot, panels: tuple[Panel, ...], width: float) -> None:
        self.plot, self.panels, self.columns = plot, panels, columns(plot)
        self.numbers = 0 if plot.is_compact else NUMBERS
        self.row = LOW_ROW if len(plot.lines) > MANY else ROW
        if plot.is_compact:
            self.row = 0.12 + LANE * len(plot.lanes)
        beside = min(BESIDE, len(plot.panels))
        room = width - 2 * MARGIN - sum(self.columns) - GAP
        self.panel_width = (room - GAP * (beside - 1)) / beside - self.numbers
        measures = [panel.measure for panel in panels]
        levels = LINE * any(measure.chance is not None for measure in measures)
        self.head = axes.head_height(measures, self.panel_width) + levels
        self.height = self.head + self.row * len(plot.lines) + axes.FOOT

    def draw(self, sheet: Sheet, top: float) -> None:
        """Draw the names of the rows, then the panels."""
        first = top + self.head
        self._names(sheet, first)
        left = MARGIN + sum(self.columns) + GAP
        for panel in self.panels:
            axes.heading(sheet, panel.measure, left, top, self.panel_width)
            axis = sheet.axes(left, first, self.panel_width, self.row * len(self.plot.lines))
            self._panel(axis, panel)
            for (line, _), score in panel.marks.items() if self.numbers else ():
                text = display_names.number(score.value)
                right = left + self.panel_width + NUMBERS
                middle = first + self.row * (line + 0.5)
                sheet.text(right, middle, text, SMALL, color="0.25", ha="right")
            left += self.panel_width + self.numbers + GAP

    def _names(self, sheet: Sheet, top: float) -> None:
        size = SMALL if self.row < ROW and not self.plot.is_compact else TEXT
        indent = _indent(self.plot)
        for index, line in enumerate(self.plot.lines):
            middle = top + self.row * (index + 0.5)
            if isinstance(line, Heading):
                left = MARGIN + (0 if line.level == 0 else indent - 0.12)
                look = {"weight": "bold"} if line.level == 0 else {"style": "italic"}
                sheet.text(left, middle, line.text, size, **look)
                continue
            colour = QUIET if _is_lost(line) else "black"
            sheet.text(MARGIN + indent, middle, line.name, size, color=colour)
            sheet.text(MARGIN + self.columns[0], middle, _words(line), size - 1, color=QUIET)

    def _panel(self, axis: Any, panel: Panel) -> None:
        axes.across(axis, panel.scale, panel.measure)
        axis.set_ylim(len(self.plot.lines), 0)
        axis.set_yticks([])
        for index, number in enumerate(self.plot.rows):
            if not self.plot.is_compact:
                axis.axhline(number + 0.5, color=RULE, linewidth=0.8, zorder=0)
            elif index % 2 == 0:
                axis.axhspan(number, number + 1, color=STRIPE, linewidth=0, zorder=0)
        for (first, last), score in panel.bands.items():
            side = [first, last + 1]
            if score.low is not None:
                ends = [panel.scale.within(end) for end in (score.low, score.high)]
                axis.fill_betweenx(side, *ends, color=DENSE_BAND, linewidth=0, zorder=1)
            axis.plot([score.value] * 2, side, color=DENSE_LINE, linewidth=1, zorder=2)
        for place, score in panel.marks.items():
            axes.value(axis, panel.scale, score, self._middle(*place), self._look(*place))
        self._failures(axis)

    def _failures(self, axis: Any) -> None:
        """Write "failed" into the rows of failed cells; in a compact plot draw a cross."""
        place = {"transform": axis.get_yaxis_transform(), "zorder": 4}
        text = {"fontsize": SMALL, "style": "italic", "ha": "center", "va": "center"}
        for number, row in self.plot.rows.items():
            for lane in (i for i, failed in enumerate(row.failed) if failed):
                height = self._middle(number, lane)
                if self.plot.is_compact:
                    cross = {"color": style(lane).colour, "markersize": 4}
                    axis.plot([0.015], [height], "x", **cross, **place)
                else:
                    axis.text(0.5, height, "failed", color=QUIET, **text, **place)

    def _middle(self, line: int, lane: int) -> float:
        """Return the height of a lane, in rows from the top."""
        lanes = len(self.plot.lanes)
        return line + 0.5 + (lane - (lanes - 1) / 2) * LANE / self.row

    def _look(self, line: int, lane: int) -> axes.Look:
        is_control = not self.plot.rows[line].cells
        look = style(lane)
        if self.plot.is_compact:
            return axes.Look(QUIET if is_control else look.colour, look.marker, 4.5, is_control)
        return axes.Look(QUIET if is_control else PALETTE[0], "o", 6.0, is_control, aside=0.3)


def _is_lost(row: Row) -> bool:
    """Return whether all cells of a row failed."""
    return bool(row.cells) and all(row.failed)


def _words(row: Row) -> str:
    """Return the words beside a row's name; if all of it failed, its panels say so."""
    return "; ".join(filter(None, (row.about, "" if _is_lost(row) else row.note)))


def _indent(plot: DotPlot) -> float:
    """Return how far the names of rows stand to the right of the sections' names."""
    return 0.2 if len(plot.rows) < len(plot.lines) else 0.0


def columns(plot: DotPlot) -> tuple[float, float]:
    """Return the widths of the columns of names and of plain words, in inches."""
    rows = plot.rows.values()
    heads = [line for line in plot.lines if isinstance(line, Heading)]
    name = max([width_of(row.name) for row in rows], default=0) + _indent(plot) + 0.15
    about = max([width_of(_words(row), TEXT - 1) for row in rows], default=0)
    head = max([width_of(line.text, TEXT, "bold") for line in heads], default=0)
    return name, max(about, head - name)


def dot_blocks(plot: DotPlot) -> tuple[float, list[Any]]:
    """Return the width of the page that a dot plot needs, and its blocks."""
    beside = min(BESIDE, len(plot.panels))
    width = max(WIDTH, MARGIN * 2 + sum(columns(plot)) + beside * (LEAST + NUMBERS + GAP))
    blocks: list[Any] = []
    if plot.is_compact:
        entries = [Entry(name, style(i)) for i, name in enumerate(plot.lanes)]
        if any(any(row.failed) for row in plot.rows.values()):
            entries.append(Entry("failed", Style(QUIET, "x", "")))
        blocks.append(Legend(entries, width))
    for start in range(0, len(plot.panels), BESIDE):
        blocks.append(DotBlock(plot, plot.panels[start : start + BESIDE], width))
    return width, blocks
