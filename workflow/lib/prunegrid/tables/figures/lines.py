"""A figure of lines as data: a measure along the sparsity, a line a pruning and tuning."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas

from prunegrid.tables.figures import display_names, scales
from prunegrid.tables.figures.points import Cell, Score, Scores
from prunegrid.tables.figures.sweeps import Sweep, places_of
from prunegrid.tables.headline import Measure

TICKS = 6
SPARSITY = "zero or removed, % of the prunable weights (measured)"
UNTOUCHED = "dense, untouched"


@dataclass(frozen=True)
class Point:
    """A value at a place of the horizontal axis; `ring` says that it is the cliff of its line."""

    place: float
    score: Score
    ring: bool = False


@dataclass(frozen=True)
class Series:
    """A line of a panel; `index` is its number in the whole figure."""

    name: str
    index: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class LinePanel:
    """One measure of one model and data set."""

    place: str  # model, and data set where they differ; "" where the figure has one of both
    measure: Measure
    scale: scales.Scale  # of the measure
    series: tuple[Series, ...]
    ends: tuple[float, float]  # of the horizontal axis
    ticks: tuple[tuple[float, str], ...]  # (place, text) of the horizontal axis
    band: Score | None  # a line and the shade around it: the dense model; None without a score
    levels: tuple[tuple[str, float], ...]  # (name, value) of controls that are on the axis
    note: str = ""  # a line of text below the title

    @property
    def points(self) -> list[Point]:
        """Return the points of all lines."""
        return [point for line in self.series for point in line.points]

    @property
    def scores(self) -> list[Score]:
        """Return all values."""
        return [point.score for point in self.points]


@dataclass(frozen=True)
class LinePlot:
    """Panels of lines; the names of the series by number, of the bands, of the horizontal axis."""

    panels: tuple[LinePanel, ...]
    names: tuple[str, ...]
    band: str
    across: str


def line_plot(
    cells: Sequence[Cell],
    sweeps: Sequence[Sweep],
    scores: Scores,
    measures: Sequence[Measure],
    controls: pandas.DataFrame,
) -> LinePlot:
    """Return the lines of a study's sweeps: a panel a model, data set and measure.

    Args:
        controls: rows of the long table of what is no model but may be compared with.
    """
    places = list(dict.fromkeys(cell.place for cell in cells))
    panels = []
    for place in places:
        own = [cell for cell in cells if cell.place == place]
        levels = controls[controls["dataset"].isin([place[1]])]
        for measure in measures:
            keys = [cell.key for cell in own if (*cell.key, *measure.key) in scores]
            scored = {key: scores[*key, *measure.key] for key in keys}
            series = [_series(i, sweep, own, scored) for i, sweep in enumerate(sweeps)]
            series = [line for line in series if line.points]
            if series:
                name = _place_name(place, places)
                panels.append(_panel(name, measure, series, own, scored, levels))
    return LinePlot(tuple(panels), tuple(s.name for s in sweeps), UNTOUCHED, SPARSITY)


def _place_name(place: tuple, places: Sequence[tuple]) -> str:
    model, dataset = place
    if len(places) == 1:
        return ""
    several = len([name for name, _ in places if name == model]) > 1
    return f"{model}, {dataset}" if several else model


def _series(index: int, sweep: Sweep, own: Sequence[Cell], scored: Mapping[tuple, Score]) -> Series:
    """Return a sweep's line of one model and data set, by rising sparsity."""
    pruned, start = (
        [cell for cell in cells if cell in own and cell.key in scored]
        for cells in (sweep.cells, sweep.start)
    )
    points = [
        Point(100 * place, scored[cell.key])
        for cell in ([*start, *pruned] if pruned else ())
        for place in places_of(cell, own, scored)
    ]
    return Series(sweep.name, index, tuple(sorted(points, key=lambda point: point.place)))


def _panel(
    place: str,
    measure: Measure,
    series: Sequence[Series],
    own: Sequence[Cell],
    scored: Mapping[tuple, Score],
    controls: pandas.DataFrame,
) -> LinePanel:
    dense = next((scored[c.key] for c in own if c.is_dense and c.key in scored), None)
    shown = controls[(controls["split"] == measure.split) & (controls["metric"] == measure.metric)]
    levels = [(row["name"], float(row["value"])) for _, row in shown.iterrows()]
    if measure.chance is not None:
        levels.append(("chance", measure.chance))
    points = [point for line in series for point in line.points]
    scale = scales.fit(
        [*(point.score for point in points), *([dense] if dense else [])],
        log=measure.wants_log,
        levels=[value for _, value in levels],
        ticks=TICKS,
        clip=False,  # where a line falls off is what it shows
    )
    reached = [point.place for point in points]
    low, high = min(reached), max(reached)
    pad = 0.05 * (high - low or 10.0)
    return LinePanel(
        place,
        measure,
        scale,
        tuple(series),
        (low - pad, high + pad),
        tuple((tick, display_names.percent(tick / 100)) for tick in _ticks(reached, own)),
        dense,
        tuple((name, value) for name, value in levels if not scale.beyond(value)),
    )


def _ticks(reached: Sequence[float], own: Sequence[Cell]) -> list[float]:
    """Return the sparsities of the profiles, if few and apart; else round numbers."""
    low, high = min(reached), max(reached)
    targets = sorted({round(100 * cell.target, 6) for cell in own})
    targets = [target for target in targets if low - 1 <= target <= high + 1]
    apart = (high - low) / 12
    if len(targets) > 1 and all(b - a >= apart for a, b in itertools.pairwise(targets)):
        return targets
    return list(scales.fit([Score(v, None, None, ()) for v in reached], log=False, ticks=8).ticks)
