"""The part on declared contrasts: their effects as a forest plot, their verdicts in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import altair
import pandas

from prunegrid.tables.compared import tested
from prunegrid.tables.figures import display_names
from prunegrid.tables.figures.points import cells_of
from prunegrid.tables.headline import measure_of
from prunegrid.tables.markdown import interval, kept_together, number
from prunegrid.tables.page import palette
from prunegrid.tables.page.part import PageFacts, Part
from prunegrid.tables.page.scored_cells import name_of
from prunegrid.tables.page.tables_html import table
from prunegrid.tables.schema import Row

ORDER = 30
TITLE = "Contrasts: what was declared beforehand, and its verdict"
CHART = "contrasts-chart"
WIDTH, LINE = 900, 78  # pixels: of the plot at most, of a contrast's line
_PLACE, _HOW = '<div id="{}"></div>', "How the verdicts are made"
COLOURS = {"better": "#009E73", "worse": "#D55E00", "undecided": palette.DENSE}
# Where numbers may stand on the axis of a ratio.
_ABOVE = (1.01, 1.02, 1.05, 1.1, 1.25, 1.5, 2, 3, 5, 10, 20, 50, 100, 1000, 10_000, 100_000)
_BELOW = (0.99, 0.98, 0.95, 0.9, 0.8, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 1e-3, 1e-4, 1e-5)


def part(facts: PageFacts) -> Part | None:
    """Return the part, None for a study that declares no contrast."""
    frame = facts.frames.get("contrasts.")
    if frame is None or frame.empty:
        return None
    every = frame.astype(object).where(frame.notna(), None).to_dict("records")
    sides = [_sides(row, names) for names in [_names(facts)] for row in every]
    rows = [
        _row(number, row, pair, facts)
        for number, (row, pair) in enumerate(zip(every, sides, strict=True))
        if row["value"] is not None
    ]
    charts = {CHART: _chart(rows)} if rows else {}
    lines = [_in_words(row, pair) for row, pair in zip(every, sides, strict=True)]
    how = tested(every, ("the first model", "the second"))
    return Part(
        "contrasts",
        TITLE,
        "Each line is the effect of one choice against another on the same test items, with its "
        "95% interval. The first model is compared with the second. The grey stroke of a line "
        "marks no difference; an interval that holds it shows none. A ratio stands on a "
        "logarithmic axis: twice as much lies as far from 1 as half as much.",
        html=_PLACE.format(CHART) * bool(rows)
        + table(lines, "contrast-verdicts")
        + f'<details id="how-tested"><summary>{_HOW}</summary><p>{escape(how)}</p></details>',
        charts=charts,
        data={"contrasts": rows} if rows else {},
    )


def _names(facts: PageFacts) -> Mapping[str, str]:
    """Return {a side's title `model / data / prune / finetune`: its plain name}."""
    cells = cells_of(facts.wide)
    several = len({cell.place for cell in cells}) > 1
    return {
        f"{cell.model} / {cell.dataset} / {cell.prune} / {cell.finetune}": name_of(cell)
        + (f" ({' on '.join(filter(None, cell.place))})" if several else "")
        for cell in cells
    }


def _sides(row: Row, names: Mapping[str, str]) -> tuple[str, str]:
    """Return the names of a contrast's two sides; by their profiles where these differ alone."""
    titles = [row[side] or "" for side in "ab"]
    first, second = (names.get(title, title) for title in titles)
    if first == second:
        first, second = (" / ".join(title.split(" / ")[-2:]) for title in titles)
    return first, second


def _row(order: int, row: Row, sides: tuple[str, str], facts: PageFacts) -> dict[str, Any]:
    """Return the row of the chart's data."""
    verdict, is_ratio = row["verdict"], row["effect"] == "ratio"
    kind = "better" if verdict in ("better", "non-inferior") else "undecided"
    better = measure_of(facts.tall, row["split"], row["metric"]).higher_is_better
    measure = display_names.measure_name(row["split"], row["metric"])
    how = "first divided by second" if is_ratio else "first minus second"
    names = ("contrast", "split", "metric", "n", "value", "low", "high", "p_holm")
    return {
        **{name: row[name] for name in names},
        "order": order,
        "first": sides[0],
        "second": sides[1],
        "verdict": verdict,
        "kind": "worse" if verdict == "worse" else kind,
        "label": f"{row['contrast']}: {verdict}",
        "sides": f"{sides[0]}\nagainst {sides[1]}",
        "where": f"{measure}: {how}; {display_names.direction(better)}",
        "neutral": 1.0 if is_ratio else 0.0,
    }


def _in_words(row: Row, sides: tuple[str, str]) -> dict[str, Any]:
    """Return the line of the table."""
    value, low, high = (number(row[name], ".3f") for name in ("value", "low", "high"))
    verdict = f"no verdict: {row['reason']}" if row["reason"] else row["verdict"]
    if row["verdict"] == "worse" and row["non_inferior"]:
        verdict = "worse, by less than the margin"
    known = row["split"] and row["metric"]
    return {
        "contrast": row["contrast"],
        "first model": sides[0],
        "second model": sides[1],
        "score": display_names.measure_name(row["split"], row["metric"]) if known else "",
        "effect": f"{row['effect']} {kept_together(interval(value, low, high))}" if value else "",
        "n": "" if pandas.isna(row["n"]) else row["n"],
        "p (Holm)": number(row["p_holm"], ".3f"),
        "the first is": verdict,
    }


def _chart(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the spec: a panel a score, as their scales differ."""
    panels = [
        _panel(place, [row for row in rows if row["where"] == place])
        for place in dict.fromkeys(row["where"] for row in rows)
    ]
    chart = altair.vconcat(*panels, data=altair.NamedData("contrasts"), spacing=26)
    return chart.to_dict(validate=False)


def _panel(place: str, rows: Sequence[Row]) -> altair.LayerChart:
    """Return the panel of one score: a line a contrast, its two sides named above the interval."""
    base = altair.Chart().encode(y=altair.Y("order:O", title=None, axis=None))
    scale = altair.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    colour = altair.Color("kind:N", scale=scale, title="The first model is")
    across = altair.X("value:Q", title=None, scale=altair.Scale(zero=False, padding=14))
    across.axis = altair.Axis(tickCount=6, grid=False)
    if ratios := _ratios(rows):
        ends, ticks = ratios
        across.scale = altair.Scale(type="log", domain=ends, nice=False)
        across.axis = altair.Axis(values=ticks, format="~g", grid=False, labelOverlap=False)
    tips = [altair.Tooltip(f"{name}:N") for name in ("contrast", "first", "second", "verdict")]
    tips += [altair.Tooltip(f"{n}:Q", format=".4~g") for n in ("value", "low", "high", "n")]
    text = {"align": "left", "baseline": "middle", "fontSize": 12}
    left = base.encode(x=altair.value(6))
    layers = altair.layer(
        base.mark_tick(size=22, thickness=2, orient="vertical", color=palette.DENSE, yOffset=26)
        .encode(x="neutral:Q"),
        base.mark_rule(strokeWidth=2.4, yOffset=26).encode(x="low:Q", x2="high:Q", color=colour),
        base.mark_point(filled=True, size=90, opacity=1, yOffset=26).encode(
            x=across, color=colour, tooltip=tips
        ),
        left.mark_text(dy=-28, fontWeight="bold", **text).encode(text="label:N"),
        left.mark_text(dy=-12, lineBreak="\n", **text).encode(text="sides:N"),
    )  # fmt: skip
    title = altair.Title(place, anchor="start", fontSize=12, fontWeight="normal")
    layers = layers.transform_filter(altair.FieldEqualPredicate(field="where", equal=place))
    return layers.properties(width=WIDTH, height=altair.Step(LINE), title=title)


def _ratios(rows: Sequence[Row]) -> tuple[list[float], list[float]] | None:
    """Return the ends and the numbers of an axis of ratios, symmetric round 1; None of others."""
    values = [row[name] for row in rows for name in ("value", "low", "high")]
    values = [value for value in values if value is not None]
    if rows[0]["neutral"] != 1.0 or not all(0 < value < math.inf for value in values):
        return None
    most = max(1.02, *(max(value, 1 / value) for value in values)) ** 1.06
    ticks = [1.0]
    for side in (_ABOVE, _BELOW):
        for tick in sorted(side, key=lambda tick: -abs(math.log(tick))):
            gap = min(abs(math.log(tick / other)) for other in ticks)
            if 1 / most <= tick <= most and gap >= math.log(most) / 5:
                ticks.append(tick)
    return [1 / most, most], sorted(ticks)
