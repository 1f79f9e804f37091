"""A dot plot as data: one row a cell, its name, its values, in groups by tuning.

Rows of one model and data set are a section, which has its own untouched model as a band. A table
of many rows is compact: a row a pruning, and a lane within it a tuning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas

from prunegrid.tables.figures import display_names, scales
from prunegrid.tables.figures.points import Cell, Score, Scores
from prunegrid.tables.headline import Measure

COMPACT = 40  # more rows than these are drawn compact
TICKS = {1: 10, 2: 6, 3: 4}  # the most numbers on an axis, by panels beside each other


@dataclass(frozen=True)
class Row:
    """One row."""

    name: str  # names of the user's profiles, or of a control, which is no cell
    about: str  # the same in plain words
    note: str  # what failed; "" where nothing did
    cells: tuple[Cell | None, ...]  # of each lane, None where it has none; () of a control

    @property
    def failed(self) -> tuple[bool, ...]:
        """Return whether the cell of each lane failed."""
        return tuple(bool(cell and cell.has_failed) for cell in self.cells)


@dataclass(frozen=True)
class Heading:
    """A line of text before rows: of a section (level 0) or of a tuning in it (level 1)."""

    text: str
    level: int


Lines = Sequence[Row | Heading]


@dataclass(frozen=True)
class Panel:
    """One measure over all rows."""

    measure: Measure
    scale: scales.Scale
    marks: dict[tuple[int, int], Score]  # by line and lane
    bands: dict[tuple[int, int], Score]  # the untouched model's, by first and last line of its rows

    @property
    def scores(self) -> list[Score]:
        """Return all values."""
        return list(self.marks.values())


@dataclass(frozen=True)
class DotPlot:
    """A dot plot."""

    lines: tuple[Row | Heading, ...]  # rows and headings from the top
    lanes: tuple[str, ...]  # names of the lanes of a compact plot; one empty name where it is not
    panels: tuple[Panel, ...]  # one a measure

    @property
    def is_compact(self) -> bool:
        """Return whether a row holds several cells."""
        return len(self.lanes) > 1

    @property
    def rows(self) -> dict[int, Row]:
        """Return the rows by the number of their line."""
        return {i: line for i, line in enumerate(self.lines) if isinstance(line, Row)}


def dot_plot(
    cells: Sequence[Cell], scores: Scores, measures: Sequence[Measure], controls: pandas.DataFrame
) -> DotPlot:
    """Return the dot plot of cells.

    Args:
        controls: rows of the long table of what is no model but may be compared with (baselines).
    """
    lanes = dict.fromkeys(display_names.tuning_name(cell) for cell in _untuned_first(cells))
    compact = len(cells) > COMPACT and len(lanes) > 1
    places = list(dict.fromkeys(cell.place for cell in cells))
    lines: list[Row | Heading] = []
    sections = []
    for place in places:
        own = [cell for cell in cells if cell.place == place]
        if len(places) > 1:
            lines.append(Heading(_place_name(place, places), 0))
        first = len(lines)
        lines += _by_pruning(own, list(lanes)) if compact else _by_tuning(own)
        sections.append((first, len(lines) - 1, next((c for c in own if c.is_dense), None)))
    lines += _control_rows(controls, measures, 0 if len(places) > 1 else 1)
    panels = (_panel(lines, sections, scores, m, controls, len(measures)) for m in measures)
    return DotPlot(tuple(lines), tuple(lanes) if compact else ("",), tuple(panels))


def _untuned_first(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells, the untouched model first, then those that nothing tuned."""
    return sorted(cells, key=lambda cell: (cell.tuned, not cell.is_dense))


def _place_name(place: tuple, places: Sequence[tuple]) -> str:
    """Return a section's name: its model, and its data set where they differ."""
    model, dataset = place
    models, datasets = ({name for name in names} for names in zip(*places, strict=True))
    if dataset is None or len(datasets) == 1:
        return model
    return dataset if len(models) == 1 else f"{model}, {dataset}"


def _by_tuning(cells: Sequence[Cell]) -> Lines:
    """Return the lines of a section: a heading a tuning, a row a cell."""
    sections: dict[str, list[Row]] = {}
    for cell in _untuned_first(cells):
        note = f"{cell.failed} of {cell.seeds} seeds failed" if cell.failed else ""
        note = "failed" if cell.has_failed else note
        row = Row(_name(cell), _about(cell), note, (cell,))
        sections.setdefault(display_names.tuning_name(cell), []).append(row)
    lines: list[Row | Heading] = []
    for tuning, rows in sections.items():
        lines += [Heading(tuning, 1), *rows] if len(sections) > 1 else rows
    return lines


def _by_pruning(cells: Sequence[Cell], lanes: Sequence[str]) -> Lines:
    """Return the lines of a compact section: a row a pruning, a lane a tuning."""
    rows = []
    for prune in dict.fromkeys(cell.prune for cell in _untuned_first(cells)):
        own = {display_names.tuning_name(cell): cell for cell in cells if cell.prune == prune}
        in_lanes = tuple(own.get(tuning) for tuning in lanes)
        first = next(cell for cell in in_lanes if cell)
        failed = sum(cell.failed for cell in own.values())
        note = f"{failed} of {sum(cell.seeds for cell in own.values())} failed" if failed else ""
        about = display_names.recipe(first) if len(own) > 1 else _about(first)
        rows.append(Row(_name(first), about, note, in_lanes))
    return rows


def _name(cell: Cell) -> str:
    return " + ".join(cell.prune.split("+"))


def _about(cell: Cell) -> str:
    return "untouched" if cell.is_dense else display_names.recipe(cell)


def _control_rows(controls: pandas.DataFrame, measures: Sequence[Measure], level: int) -> Lines:
    """Return a heading of a level and a row for each control that has one of the measures."""
    shown = {measure.key for measure in measures}
    named = zip(controls["name"], controls["split"], controls["metric"], strict=True)
    names = dict.fromkeys(name for name, *key in named if tuple(key) in shown)
    rows = [Row(name, "control", "", ()) for name in names]
    return [Heading("No model", level), *rows] if rows else []


def _panel(
    lines: Lines,
    sections: Sequence[tuple[int, int, Cell | None]],
    scores: Scores,
    measure: Measure,
    controls: pandas.DataFrame,
    beside: int,
) -> Panel:
    rows = [(number, line) for number, line in enumerate(lines) if isinstance(line, Row)]
    marks = {
        (number, lane): scores[*cell.key, *measure.key]
        for number, row in rows
        for lane, cell in enumerate(row.cells)
        if cell and (*cell.key, *measure.key) in scores
    }
    own = controls[(controls["split"] == measure.split) & (controls["metric"] == measure.metric)]
    numbers = {row.name: number for number, row in rows if not row.cells}
    for _, control in own.drop_duplicates("name").iterrows():
        low, high = (None if pandas.isna(v) else float(v) for v in control[["low", "high"]])
        value = float(control["value"])
        marks[numbers[control["name"]], 0] = Score(value, low, high, (value,))
    scale = scales.fit(
        marks.values(),
        log=measure.wants_log,
        levels=[] if measure.chance is None else [measure.chance],
        ticks=TICKS[min(beside, max(TICKS))],
    )
    bands = {
        (first, last): scores[*dense.key, *measure.key]
        for first, last, dense in sections
        if dense and (*dense.key, *measure.key) in scores
    }
    return Panel(measure, scale, marks, bands)
