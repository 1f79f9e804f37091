"""The part on what quality costs: each score against size, speed or training time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair

from prunegrid.tables.figures import display_names
from prunegrid.tables.figures.points import Cell
from prunegrid.tables.headline import Measure
from prunegrid.tables.page import palette
from prunegrid.tables.page.part import PageFacts, Part
from prunegrid.tables.page.scored_cells import ScoredCells, name_of
from prunegrid.tables.page.tables_html import select

ORDER = 10
TITLE = "What quality costs"
CHART = "pareto-chart"
WIDTH, HEIGHT = 1100, 420  # pixels at most
# Marks nearer than this share of the axis cover each other; they stand side by side instead.
NEAR = 0.015
# {column: (what the reader sees, 1 where less is better and -1 where more is)}.
COSTS = {
    "bytes_packed": ("Bytes without the zeros", "1"),
    "file_bytes": ("Bytes of the weight files", "1"),
    "nonzero_parameters": ("Parameters that are not zero", "1"),
    "parameters": ("Parameters", "1"),
    "decode_tokens_per_second": ("Decode speed, tokens a second", "-1"),
    "train_seconds": ("Seconds of training", "1"),
}


def part(facts: PageFacts) -> Part | None:
    """Return the part, None for a study without scores."""
    if facts.is_census:
        return None
    cells = ScoredCells(facts)
    rows = [
        _point(cells, place, name, measure, cell, own)
        for place, name, measure, own in cells.of_places()
        for cell in own
        if cells.score(cell, measure)
    ]
    costs = [c for c in COSTS if len({row[c] for row in rows} - {None}) > 1]
    costs = costs or [c for c in COSTS if any(row[c] is not None for row in rows)]
    if not costs:
        return None
    apart = {column: _told_apart(rows, column) for column in costs}
    models = len({(row["place"], row["prune"], row["finetune"]) for row in rows})
    enough = (column for column in costs if 2 * apart[column] >= models)
    first = next(enough, max(costs, key=lambda column: apart[column]))
    costs.sort(key=lambda column: column != first)
    options = [(column, COSTS[column][0]) for column in costs]
    chosen = select("pareto-cost", "Cost", options, sign=[COSTS[c][1] for c in costs])
    return Part(
        "pareto",
        TITLE,
        "Each mark is one model: its score with the 95% interval over test items, against what it "
        "costs. Grey band: the dense model. The line joins the models that no cheaper one beats. "
        "A hollow mark is a model that cannot be told from at least one other by this score "
        "(paired 95% interval); point at it to see from which. Marks of nearly the same cost stand "
        f"side by side. The first cost of the list, “{COSTS[first][0]}”, has {apart[first]} "
        f"values that can be told apart, for {models} models.",
        html=f'<div class="controls">{cells.selectors("pareto", rows)}{chosen}</div>',
        charts={CHART: _chart(list(dict.fromkeys(row["method"] for row in rows)))},
        data={"points": rows},
    )


def _point(
    cells: ScoredCells, place: str, name: str, measure: Measure, cell: Cell, own: list[Cell]
) -> Mapping[str, Any]:
    """Return the row of one cell and measure."""
    score = cells.score(cell, measure)
    effects = ((one, cells.effect(cell, one, measure)) for one in own if one is not cell)
    alike = [name_of(one) for one, effect in effects if effect and not effect.is_clear]
    return {
        "place": place,
        "measure": name,
        "score": display_names.measure_name(*measure.key),
        "model": cell.model,
        "dataset": cell.dataset,
        "prune": cell.prune,
        "finetune": cell.finetune,
        "cell": name_of(cell),
        "method": display_names.method_name(cell.method),
        "tuning": display_names.tuning_name(cell),
        "is_dense": cell.is_dense,
        "seeds": len(score.seeds),
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "zeros_or_removed": cell.share,
        "hollow": bool(alike),
        "cannot_be_told_from": alike,
        **{column: _cost(cells, cell, column) for column in COSTS},
    }


def _told_apart(rows: Sequence[Mapping[str, Any]], column: str) -> int:
    """Return how many values of a cost a reader of the chart can tell apart, over all places."""
    count = 0
    for place in dict.fromkeys(row["place"] for row in rows):
        own = {row[column] for row in rows if row["place"] == place} - {None}
        values = sorted(own)
        gap = NEAR * (values[-1] - values[0]) if values else 0.0
        count += bool(values)
        count += sum(b - a > gap for a, b in zip(values, values[1:], strict=False))
    return count


def _cost(cells: ScoredCells, cell: Cell, column: str) -> float | None:
    """Return a cost of a cell; a model that was not tuned has trained for no time."""
    value = cells.mean(cell, column)
    return 0.0 if value is None and column == "train_seconds" and not cell.trained else value


def _side_by_side(base: altair.Chart) -> altair.Chart:
    """Return a chart whose rows have `shift`: pixels aside, for marks of nearly the same cost."""
    return (
        base.transform_calculate(at="datum['$pareto-cost']")
        .transform_joinaggregate(least="min(at)", most="max(at)")
        .transform_window(before="lag(at)", sort=[altair.SortField("at")])
        .transform_calculate(
            apart="isValid(datum.before) && datum.at - datum.before <= "
            f"{NEAR} * (datum.most - datum.least) ? 0 : 1"
        )
        .transform_window(slot="sum(apart)", sort=[altair.SortField("at")], frame=[None, 0])
        .transform_joinaggregate(beside="count()", groupby=["slot"])
        .transform_window(turn="row_number()", groupby=["slot"])
        .transform_calculate(
            shift="(datum.turn - (datum.beside + 1) / 2) * min(16, 160 / datum.beside)"
        )
    )


def _frontier(base: altair.Chart) -> altair.Chart:
    """Return the line that joins the models that no cheaper one beats."""
    return (
        base.transform_calculate(
            cost="$pareto-cost:sign * datum['$pareto-cost']",
            good="$pareto-score:sign * datum.value",
        )
        .transform_window(
            best="max(good)",
            sort=[
                altair.SortField("cost"),
                altair.SortField("good", order="descending"),
            ],
        )
        .transform_filter("datum.good >= datum.best")
        .mark_line(color=palette.DENSE, interpolate="step-after", strokeWidth=1.2)
    )


def _chart(methods: list[str]) -> dict[str, Any]:
    """Return the spec; its "$pareto-…" stand for what the selectors say."""
    base = altair.Chart(altair.NamedData("points")).transform_filter(
        "datum.measure == '$pareto-score' && datum.place == '$pareto-place'"
        " && isValid(datum['$pareto-cost'])"
    )
    base = _side_by_side(base)
    across = altair.X(field="$pareto-cost", type="quantitative", title="$pareto-cost:label")
    across.scale = altair.Scale(zero=False, nice=True, padding=24)
    across.axis = altair.Axis(format=".3~s", grid=False, tickCount=8)
    # No cost is negative: what is left of 0 is only room for marks that stand side by side.
    across.axis.labelExpr = "datum.value < 0 ? '' : datum.label"
    across.axis.tickOpacity = altair.condition("datum.value < 0", altair.value(0), altair.value(1))
    up = altair.Y("value:Q", title="$pareto-score:label ($pareto-score:better)")
    up.scale = "$pareto-score=scale"
    up.axis = altair.Axis(tickCount=8)
    dense = base.transform_filter("datum.is_dense")
    band = dense.mark_rect(color=palette.DENSE, opacity=0.22).encode(y="low:Q", y2="high:Q")
    line = dense.mark_rule(color=palette.DENSE, strokeDash=[5, 3]).encode(y="value:Q")
    frontier = _frontier(base).encode(x=across, y=up, order="cost:Q")
    series = altair.Scale(domain=methods, range=palette.of(methods, dense="dense"))
    stroke = altair.Stroke("method:N", scale=series, title="Pruning")
    bars = base.mark_rule(strokeWidth=1.6, xOffset=altair.ExprRef("datum.shift"))
    bars = bars.encode(x=across, y="low:Q", y2="high:Q", stroke=stroke)
    tips = [
        altair.Tooltip("cell:N", title="model"),
        altair.Tooltip("value:Q", title="score", format=".4~g"),
        altair.Tooltip("low:Q", title="95% from", format=".4~g"),
        altair.Tooltip("high:Q", title="to", format=".4~g"),
        altair.Tooltip("zeros_or_removed:Q", title="zeros or removed", format=".1%"),
        altair.Tooltip("cannot_be_told_from:N", title="cannot be told from"),
    ]
    shift = altair.ExprRef("datum.shift")
    marks = base.mark_point(size=95, strokeWidth=2, opacity=1, xOffset=shift).encode(
        x=across,
        y=up,
        stroke=stroke,
        fill=altair.Fill("method:N", scale=series, title="Pruning"),
        fillOpacity=altair.condition("datum.hollow", altair.value(0), altair.value(1)),
        shape=altair.Shape("tuning:N", title="Tuning", scale=altair.Scale(range=palette.SHAPES)),
        tooltip=tips,
    )
    chart = altair.layer(band, line, frontier, bars, marks).properties(width=WIDTH, height=HEIGHT)
    return chart.to_dict(validate=False)
