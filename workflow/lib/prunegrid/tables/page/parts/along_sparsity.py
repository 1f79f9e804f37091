"""The part on sweeps: scores along rising sparsities, an arm or a pruning a line; and cliffs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair

from prunegrid.tables import plot
from prunegrid.tables.figures import display_names
from prunegrid.tables.figures.cliff_lines import LEVELS
from prunegrid.tables.figures.lines import LinePanel, LinePlot
from prunegrid.tables.page.palette import DENSE, SERIES, SHAPES
from prunegrid.tables.page.part import PageFacts, Part

ORDER = 35
TITLE = "Along the sparsity"
PANELS = 8
WIDTH, HEIGHT = 560, 240  # pixels of a panel at most
_CAPTION = "Each line is one pruning at rising sparsity; a bar is the 95% interval of a score. "
_DENSE = "The grey line is the untouched dense model, the grey band its interval."
_CLIFFS = (
    "The grey line is the untouched dense model, the grey band how much worse the margin allows. "
    "A ring marks the cliff: the highest sparsity that is within the margin, as are all below it."
)


def part(facts: PageFacts) -> Part | None:
    """Return the part, None for a study without three sparsities of one pruning (or a census)."""
    if facts.is_census:
        return None
    cliffs = facts.frames["cliffs."]
    lines, _ = plot.parts_of(facts.plan, facts.wide, facts.tall, cliffs, facts.groups)
    panels = lines.panels[:PANELS] if lines else ()
    if not panels:
        return None
    rows = [row for number, panel in enumerate(panels) for row in _rows(number, panel)]
    charts = [_chart(number, panel, lines) for number, panel in enumerate(panels)]
    whole = altair.concat(*charts, columns=2).resolve_scale(y="independent")
    more = len(lines.panels) - len(panels)
    return Part(
        "along-sparsity",
        TITLE,
        _CAPTION + (_CLIFFS if len(cliffs) else _DENSE),
        html=f"<p>{more} more scores are in the figure beside this page.</p>" if more else "",
        charts={"along-sparsity-lines": whole.to_dict()},
        data={"along_sparsity": rows},
    )


def _rows(number: int, panel: LinePanel) -> Iterator[dict[str, Any]]:
    """Yield a row for each point of a panel, and one for its band, which has no line."""
    ticks = dict(panel.ticks)
    for line in panel.series:
        for point in line.points:
            row = {"panel": number, "line": line.name, "place": point.place}
            row |= {"level": ticks.get(point.place), "ring": point.ring}
            yield row | {name: getattr(point.score, name) for name in ("value", "low", "high")}
    if panel.band:
        band = {name: getattr(panel.band, name) for name in ("value", "low", "high")}
        yield {"panel": number, "line": None} | band


def _chart(number: int, panel: LinePanel, lines: LinePlot) -> altair.LayerChart:
    """Return the chart of one panel."""
    base = altair.Chart(altair.NamedData("along_sparsity"))
    base = base.transform_filter(altair.datum.panel == number)
    points = base.transform_filter("datum.line !== null")
    band = base.transform_filter("datum.line === null")
    ends = [panel.scale.low, panel.scale.high]
    kind = "log" if panel.scale.is_log else "linear"
    scale = altair.Scale(type=kind, domain=ends, nice=False)
    title = display_names.direction(panel.measure.higher_is_better)
    y = altair.Y("value:Q", scale=scale).title(title).axis(values=[*panel.scale.ticks])
    if lines.across == LEVELS:
        x = altair.X("level:O", sort=[text for _, text in panel.ticks]).title(lines.across)
        x = x.axis(labelAngle=0)
    else:
        x = altair.X("place:Q", scale=altair.Scale(zero=False)).title(lines.across)
        x = x.axis(tickCount=8)
    names = [*lines.names]
    colours = [SERIES[index % len(SERIES)] for index in range(len(names))]
    legend = altair.Legend(title=None)
    colour = altair.Color("line:N", scale=altair.Scale(domain=names, range=colours), legend=legend)
    shapes = [SHAPES[index % len(SHAPES)] for index in range(len(names))]
    shape = altair.Shape("line:N", scale=altair.Scale(domain=names, range=shapes), legend=legend)
    forms = {"line:N": "", "value:Q": ".4g", "low:Q": ".4g", "high:Q": ".4g"}
    tooltip = [altair.Tooltip(name, format=form) if form else name for name, form in forms.items()]
    layers = [
        band.mark_rect(color=DENSE, opacity=0.2, clip=True).encode(
            y=altair.Y("low:Q", scale=scale), y2="high:Q"
        ),
        band.mark_rule(color=DENSE, clip=True).encode(y=y),
        points.mark_line().encode(x=x, y=y, color=colour),
        points.mark_rule(clip=True).encode(x=x, y=altair.Y("low:Q"), y2="high:Q", color=colour),
        points.mark_point(filled=True, size=60, opacity=1).encode(
            x=x, y=y, color=colour, shape=shape, tooltip=tooltip
        ),
        points.transform_filter("datum.ring")
        .mark_point(size=260, strokeWidth=2, color=DENSE)
        .encode(x=x, y=y),
    ]
    name = display_names.measure_name(*panel.measure.key)
    name = f"{panel.place}: {name}" if panel.place else name
    title = (
        altair.TitleParams(name, subtitle=panel.note, subtitleColor=DENSE) if panel.note else name
    )
    return altair.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title)
