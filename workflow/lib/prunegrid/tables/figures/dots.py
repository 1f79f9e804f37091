"""A dot plot as data: one row a cell, its name, its values, in groups by tuning.

Rows of one model and data set are a section, which has its own untouched model as a band. A table
of many rows is compact: a row a pruning, and a lane within it a tuning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas

from prunegrid.tables.figures import display_names, scales
from prunegrid.tables.figures.chosen_measures import Measure
from prunegrid.tables.figures.points import Cell, Score
from prunegrid.tables.figures.scales import Scale

COMPACT = 40  # more rows than these are drawn compact
TICKS = {1: 10, 2: 6, 3: 4}  # the most numbers on an axis, by panels beside each other


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        name: names of the user's profiles.
        about: the same in plain words.
        note: what failed; "" where nothing did.
        keys: key of the cell of each lane (`Cell.key`); None where the lane has none.
        failed: whether the cell of each lane failed.
        control: name of a control, which is no cell; "" of cells.
    """

    name: str
    about: str
    note: str
    keys: tuple[tuple | None, ...]
    failed: tuple[bool, ...]
    control: str = ""


@dataclass(frozen=True)
class Heading:
    """A line of text before rows: of a section (level 0) or of a tuning in it (level 1)."""

    text: str
    level: int


@dataclass(frozen=True)
class Mark:
    """A value: its line and lane, and the end of the axis that it lies beyond ("" for none)."""

    line: int
    lane: int
    score: Score
    beyond: str


@dataclass(frozen=True)
class Band:
    """The untouched model's score, over the lines of its section (first and last included)."""

    first: int
    last: int
    score: Score


@dataclass(frozen=True)
class Panel:
    """One measure over all rows."""

    measure: Measure
    scale: Scale
    marks: tuple[Mark, ...]
    bands: tuple[Band, ...]

    @property
    def scores(self) -> list[Score]:
        """Return all values."""
        return [mark.score for mark in self.marks]


@dataclass(frozen=True)
class DotPlot:
    """A dot plot.

    Attributes:
        lines: rows and headings from the top.
        lanes: what the lanes of a compact plot are called; one empty name where it is not.
        panels: one a measure.
    """

    lines: tuple[Row | Heading, ...]
    lanes: tuple[str, ...]
    panels: tuple[Panel, ...]

    @property
    def is_compact(self) -> bool:
        """Return whether a row holds several cells."""
        return len(self.lanes) > 1


def dot_plot(
    cells: Sequence[Cell],
    scores: Mapping[tuple, Score],
    measures: Sequence[Measure],
    controls: pandas.DataFrame,
) -> DotPlot:
    """Return the dot plot of cells.

    Args:
        cells: in the study's order.
        scores: by (*Cell.key, split, metric).
        measures: one panel each.
        controls: rows of the long table of what is no model but may be compared with (baselines).
    """
    tunings = tuple(
        dict.fromkeys(display_names.tuning_name(cell) for cell in _untuned_first(cells))
    )
    compact = len(cells) > COMPACT and len(tunings) > 1
    places = list(dict.fromkeys((cell.model, cell.dataset) for cell in cells))
    lines: list[Row | Heading] = []
    spans = []
    for place in places:
        own = [cell for cell in cells if (cell.model, cell.dataset) == place]
        if len(places) > 1:
            lines.append(Heading(_place_name(place, places), 0))
        first = len(lines)
        lines += _by_pruning(own, tunings) if compact else _by_tuning(own)
        spans.append((first, len(lines) - 1, next((c for c in own if c.is_dense), None)))
    lines += _control_rows(controls, measures, 0 if len(places) > 1 else 1)
    panels = tuple(_panel(lines, spans, scores, m, controls, len(measures)) for m in measures)
    return DotPlot(tuple(lines), tunings if compact else ("",), panels)


def _untuned_first(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells, the untouched model first, then those that nothing tuned."""
    return sorted(cells, key=lambda cell: (cell.tuned, not cell.is_dense))


def _place_name(place: tuple, places: Sequence[tuple]) -> str:
    """Return a section's name: its model, and its data set where they differ."""
    model, dataset = place
    models = {name for name, _ in places}
    if dataset is None or len({name for _, name in places}) == 1:
        return model
    return dataset if len(models) == 1 else f"{model}, {dataset}"


def _by_tuning(cells: Sequence[Cell]) -> list[Row | Heading]:
    """Return the lines of a section: a heading a tuning, a row a cell."""
    cells = _untuned_first(cells)
    headings = list(dict.fromkeys(display_names.tuning_name(cell) for cell in cells))
    lines: list[Row | Heading] = []
    for heading in headings:
        own = [cell for cell in cells if display_names.tuning_name(cell) == heading]
        lines += [Heading(heading, 1)] if len(headings) > 1 else []
        lines += [
            Row(_name(cell), _about(cell), _note(cell), (cell.key,), (_has_failed(cell),))
            for cell in own
        ]
    return lines


def _by_pruning(cells: Sequence[Cell], tunings: Sequence[str]) -> list[Row | Heading]:
    """Return the lines of a compact section: a row a pruning, a lane a tuning."""
    lines: list[Row | Heading] = []
    for prune in dict.fromkeys(cell.prune for cell in _untuned_first(cells)):
        own = {display_names.tuning_name(cell): cell for cell in cells if cell.prune == prune}
        in_lanes = [own.get(tuning) for tuning in tunings]
        first = next(cell for cell in in_lanes if cell)
        failed = sum(cell.failed for cell in own.values())
        cut = f"{failed} of {sum(cell.seeds for cell in own.values())} failed" if failed else ""
        keys = tuple(cell.key if cell else None for cell in in_lanes)
        lost = tuple(bool(cell and _has_failed(cell)) for cell in in_lanes)
        about = display_names.recipe(first) if len(own) > 1 else _about(first)
        lines.append(Row(_name(first), about, cut, keys, lost))
    return lines


def _name(cell: Cell) -> str:
    return " + ".join(cell.prune.split("+"))


def _about(cell: Cell) -> str:
    return "untouched" if cell.is_dense else display_names.recipe(cell)


def _has_failed(cell: Cell) -> bool:
    return cell.failed == cell.seeds


def _note(cell: Cell) -> str:
    if not cell.failed:
        return ""
    return "failed" if _has_failed(cell) else f"{cell.failed} of {cell.seeds} seeds failed"


def _control_rows(
    controls: pandas.DataFrame, measures: Sequence[Measure], level: int
) -> list[Row | Heading]:
    """Return a heading of a level and a row for each control that has one of the measures."""
    shown = {measure.key for measure in measures}
    named = zip(controls["name"], controls["split"], controls["metric"], strict=True)
    names = list(dict.fromkeys(name for name, *pair in named if tuple(pair) in shown))
    rows: list[Row | Heading] = [Row(name, "control", "", (), (), name) for name in names]
    return [Heading("No model", level), *rows] if rows else []


def _panel(
    lines: Sequence[Row | Heading],
    spans: Sequence[tuple[int, int, Cell | None]],
    scores: Mapping[tuple, Score],
    measure: Measure,
    controls: pandas.DataFrame,
    beside: int,
) -> Panel:
    found = [
        Mark(number, lane, scores[(*key, *measure.key)], "")
        for number, line in enumerate(lines)
        if isinstance(line, Row)
        for lane, key in enumerate(line.keys)
        if key and (*key, *measure.key) in scores
    ]
    own = controls[(controls["split"] == measure.split) & (controls["metric"] == measure.metric)]
    numbers = {line.control: i for i, line in enumerate(lines) if isinstance(line, Row)}
    for _, row in own.drop_duplicates("name").iterrows():
        bounds = [None if pandas.isna(row[name]) else float(row[name]) for name in ("low", "high")]
        value = float(row["value"])
        found.append(Mark(numbers[row["name"]], 0, Score(value, *bounds, (value,)), ""))
    levels = [] if measure.chance is None else [measure.chance]
    scale = scales.fit(
        [mark.score for mark in found],
        log=measure.wants_log,
        levels=levels,
        ticks=TICKS[min(beside, max(TICKS))],
    )
    marks = tuple(
        dataclasses.replace(mark, beyond=scale.beyond(mark.score.value)) for mark in found
    )
    bands = tuple(
        Band(first, last, scores[(*dense.key, *measure.key)])
        for first, last, dense in spans
        if dense and (*dense.key, *measure.key) in scores
    )
    return Panel(measure, scale, marks, bands)
