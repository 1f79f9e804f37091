"""Cells of a study with their scores and costs, as the charts of the page read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas

from prunegrid.tables.figures import display_names
from prunegrid.tables.figures.points import KEYS, Cell, Score, cells_of, scores_of
from prunegrid.tables.headline import Measure, headline, measure_of, measures_of
from prunegrid.tables.page.part import PageFacts
from prunegrid.tables.page.tables_html import select
from prunegrid.tables.schema import Row

# Scales of scores, as Vega-Lite has them.
LOG = '{"type":"log","nice":false,"padding":20}'
LINEAR = '{"zero":false,"nice":false,"padding":20}'


@dataclass(frozen=True)
class Effect:
    """A cell compared with another on the same items: a - b, or a / b of perplexities."""

    value: float
    low: float
    high: float
    is_ratio: bool

    @property
    def is_clear(self) -> bool:
        """Return whether its 95% interval leaves out "no difference"."""
        return not self.low <= (1.0 if self.is_ratio else 0.0) <= self.high


class ScoredCells:
    """The cells of a page, seeds together, their measures, and the places that they are of.

    Attributes:
        measures: {id: measure}; first those of the figure that no text games.
        places: {id: (model, data set)}.
    """

    def __init__(self, facts: PageFacts) -> None:
        self.cells = cells_of(facts.wide)
        pairs = [measure.key for measure in measures_of(facts.plan, facts.tall)]
        cells = facts.tall[facts.tall["kind"] == "cell"]
        pairs = dict.fromkeys([*pairs, *headline(facts.plan, cells)])
        every = (measure_of(facts.tall, *pair) for pair in pairs)
        known = [measure for measure in every if measure.ranks]
        places = dict.fromkeys(cell.place for cell in self.cells)
        self.places = {f"p{index}": place for index, place in enumerate(places)}
        self._scores = scores_of(facts.plan, facts.tall, [m.key for m in known], facts.groups)
        # A score that is the same for all says nothing, and one that a text games little.
        known.sort(key=lambda m: (len(self._values(m)) < 2, m.key in facts.gamed))
        self.measures = {f"m{index}": measure for index, measure in enumerate(known)}
        self._effects = _effects(facts.frames["pairs."])
        means = facts.wide.groupby(KEYS, sort=False, dropna=False).mean(numeric_only=True)
        keys = [cell.key for cell in self.cells]
        self._means = dict(zip(keys, means.to_dict("records"), strict=True))

    def _values(self, measure: Measure) -> set[float]:
        scores = (self.score(cell, measure) for cell in self.cells)
        return {score.value for score in scores if score}

    def score(self, cell: Cell, measure: Measure) -> Score | None:
        """Return a cell's score; None if it has none."""
        return self._scores.get((*cell.key, *measure.key))

    def mean(self, cell: Cell, column: str) -> float | None:
        """Return the mean of a column over a cell's seeds; None without a value."""
        value = self._means[cell.key].get(column)
        return None if value is None or pandas.isna(value) else float(value)

    def effect(self, cell: Cell, other: Cell, measure: Measure) -> Effect | None:
        """Return a cell's paired effect against another; None where their items differ."""
        place = (cell.model, cell.dataset, *measure.key)
        own, its = (f"{one.prune} / {one.finetune}" for one in (cell, other))
        if found := self._effects.get((*place, own, its)):
            return found
        found = self._effects.get((*place, its, own))
        if found is None or (found.is_ratio and found.low <= 0):
            return None
        if found.is_ratio:
            return Effect(1 / found.value, 1 / found.high, 1 / found.low, True)
        return Effect(-found.value, -found.high, -found.low, False)

    def dense(self, cell: Cell) -> Cell | None:
        """Return the untouched model of a cell."""
        return next((one for one in self.cells if one.is_dense and one.place == cell.place), None)

    def of_places(self) -> Iterator[tuple[str, str, Measure, list[Cell]]]:
        """Yield (id of a place, id of a measure, the measure, the place's cells)."""
        for place_id, place in self.places.items():
            for measure_id, measure in self.measures.items():
                own = [cell for cell in self.cells if cell.place == place]
                if any(self.score(cell, measure) for cell in own):
                    yield place_id, measure_id, measure, own

    def selectors(self, chart: str, rows: Sequence[Row]) -> str:
        """Return the selectors of a chart of rows: `$<chart>-score`, and `$<chart>-place`."""
        drawn = {row["measure"] for row in rows}
        shown = {id: measure for id, measure in self.measures.items() if id in drawn}
        names = [(id, display_names.measure_name(*m.key)) for id, m in shown.items()]
        scales = [LOG if m.wants_log else LINEAR for m in shown.values()]
        signs = ["1" if m.higher_is_better else "-1" for m in shown.values()]
        ways = [display_names.direction(m.higher_is_better) for m in shown.values()]
        text = select(f"{chart}-score", "Score", names, scale=scales, sign=signs, better=ways)
        of = [(id, " on ".join(filter(None, place))) for id, place in self.places.items()]
        return text + select(f"{chart}-place", "Model", of)


def name_of(cell: Cell) -> str:
    """Return a cell's name in plain words."""
    return f"{display_names.recipe(cell)}; {display_names.tuning_name(cell).lower()}"


def _effects(pairs: pandas.DataFrame) -> Mapping[tuple, Effect]:
    """Return {(model, data set, split, metric, a, b): effect} of the table of pairs."""
    columns = ["model", "dataset", "split", "metric", "a", "b", "value", "low", "high", "effect"]
    effects: dict[tuple, Effect] = {}
    for row in pairs[columns].itertuples(index=False):
        key: tuple[Any, ...] = tuple(None if pandas.isna(value) else value for value in row[:6])
        if not (pandas.isna(row.low) or pandas.isna(row.value)):
            effects[key] = Effect(row.value, row.low, row.high, row.effect == "ratio")
    return effects
