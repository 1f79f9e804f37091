"""A figure of lines as data: a measure along the sparsity, a line a pruning and tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas

from prunegrid.tables.figures import display_names, scales
from prunegrid.tables.figures.chosen_measures import Measure
from prunegrid.tables.figures.points import Cell, Score
from prunegrid.tables.figures.scales import Scale
from prunegrid.tables.figures.sweeps import Sweep, places_of

TICKS = 6
SPARSITY = "zero or removed, % of the prunable weights (measured)"
UNTOUCHED = "dense, untouched"


@dataclass(frozen=True)
class Point:
    """A value at a place of the horizontal axis.

    Attributes:
        place: where it stands.
        score: its value.
        ring: whether it is drawn with a ring: the cliff of its line.
    """

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
class Band:
    """A horizontal line, with what lies around it shaded; None where nothing does."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class LinePanel:
    """One measure of one model and data set.

    Attributes:
        place: model, and data set where they differ; "" where the figure has one of both.
        scale: of the measure.
        ends: of the horizontal axis.
        ticks: (place, what is written there) of the horizontal axis.
        band: of the dense model; None where it has no score.
        levels: (name, value) of controls that are on the axis.
        note: a line of text below the title.
    """

    place: str
    measure: Measure
    scale: Scale
    series: tuple[Series, ...]
    ends: tuple[float, float]
    ticks: tuple[tuple[float, str], ...]
    band: Band | None
    levels: tuple[tuple[str, float], ...] = ()
    note: str = ""

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
    """Panels of lines.

    Attributes:
        names: what the series are called, by number.
        band: what the bands are called.
        across: what the horizontal axis is.
    """

    panels: tuple[LinePanel, ...]
    names: tuple[str, ...]
    band: str
    across: str


def line_plot(
    cells: Sequence[Cell],
    sweeps: Sequence[Sweep],
    scores: Mapping[tuple, Score],
    measures: Sequence[Measure],
    controls: pandas.DataFrame,
) -> LinePlot:
    """Return the lines of a study's sweeps: a panel a model, data set and measure.

    Args:
        cells: all of the study.
        scores: by (*Cell.key, split, metric).
        controls: rows of the long table of what is no model but may be compared with.
    """
    places = list(dict.fromkeys((cell.model, cell.dataset) for cell in cells))
    panels = []
    for model, dataset in places:
        own = [cell for cell in cells if (cell.model, cell.dataset) == (model, dataset)]
        for measure in measures:
            keys = [cell.key for cell in own if (*cell.key, *measure.key) in scores]
            scored = {key: scores[(*key, *measure.key)] for key in keys}
            series = [_series(i, sweep, own, scored) for i, sweep in enumerate(sweeps)]
            series = [line for line in series if line.points]
            if series:
                name = _place_name((model, dataset), places)
                mine = controls[controls["dataset"].isin([dataset])]
                panels.append(_panel(name, measure, series, own, scored, mine))
    return LinePlot(tuple(panels), tuple(s.name for s in sweeps), UNTOUCHED, SPARSITY)


def _place_name(place: tuple, places: Sequence[tuple]) -> str:
    model, dataset = place
    if len(places) == 1:
        return ""
    several = len([name for name, _ in places if name == model]) > 1
    return f"{model}, {dataset}" if several else model


def _series(index: int, sweep: Sweep, own: Sequence[Cell], scored: Mapping[tuple, Score]) -> Series:
    """Return a sweep's line of one model and data set, by rising sparsity."""
    mine = [cell for cell in sweep.cells if cell in own and cell.key in scored]
    start = [cell for cell in sweep.start if cell in own and cell.key in scored and mine]
    points = [
        Point(100 * place, scored[cell.key])
        for cell in [*start, *mine]
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
    picked = controls[(controls["split"] == measure.split) & (controls["metric"] == measure.metric)]
    levels = [(row["name"], float(row["value"])) for _, row in picked.iterrows()]
    if measure.chance is not None:
        levels.append(("chance", measure.chance))
    found = [point.score for line in series for point in line.points]
    scale = scales.fit(
        [*found, *([dense] if dense else [])],
        log=measure.wants_log,
        levels=[value for _, value in levels],
        ticks=TICKS,
        clip=False,  # where a line falls off is what it shows
    )
    reached = [point.place for line in series for point in line.points]
    low, high = min(reached), max(reached)
    pad = 0.05 * (high - low or 10.0)
    return LinePanel(
        place,
        measure,
        scale,
        tuple(series),
        (low - pad, high + pad),
        tuple((tick, display_names.percent(tick / 100)) for tick in _ticks(reached, own)),
        Band(dense.value, dense.low, dense.high) if dense else None,
        tuple((name, value) for name, value in levels if not scale.beyond(value)),
    )


def _ticks(reached: Sequence[float], own: Sequence[Cell]) -> list[float]:
    """Return the sparsities that were asked for, if few and apart; else round numbers."""
    low, high = min(reached), max(reached)
    asked = sorted({round(100 * cell.target, 6) for cell in own})
    asked = [level for level in asked if low - 1 <= level <= high + 1]
    apart = (high - low) / 12
    if len(asked) > 1 and all(b - a >= apart for a, b in zip(asked, asked[1:], strict=False)):
        return asked
    return list(scales.fit([Score(v, None, None, ()) for v in reached], log=False, ticks=8).ticks)
