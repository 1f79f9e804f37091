"""The part on methods by sparsity: each model's score beside the dense model's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import altair

from prunegrid.tables.figures import display_names
from prunegrid.tables.figures.points import AXES, Cell
from prunegrid.tables.headline import Measure
from prunegrid.tables.markdown import interval
from prunegrid.tables.page import palette
from prunegrid.tables.page.part import PageFacts, Part
from prunegrid.tables.page.scored_cells import ScoredCells, name_of

ORDER = 20
TITLE = "Methods by sparsity"
LINE, COLUMN = 30, 152  # pixels of a cell


def part(facts: PageFacts) -> Part | None:
    """Return the part, None for a study without a dense model to compare with."""
    if facts.is_census:
        return None
    cells = ScoredCells(facts)
    status = {
        tuple(None if value != value else value for value in key): set(rows["status"])
        for key, rows in facts.wide.astype({"dataset": object}).groupby(
            ["model", "dataset", "prune", "finetune"], sort=False, dropna=False
        )
    }
    rows = [
        row
        for place, name, measure, own in cells.of_places()
        for row in _rows(cells, place, name, measure, own, status)
    ]
    if not rows:
        return None
    columns = {row["sparsity"]: row["order"] for row in rows}
    ordered = sorted(columns, key=lambda label: columns[label])
    return Part(
        "heatmap",
        TITLE,
        "Each field is a model's score divided by that of the dense model, with the 95% interval "
        "of their paired difference. 1 is as good as dense. Of a perplexity more is worse. Yellow "
        "fields are near dense or better, blue ones far worse; grey ones failed or are missing.",
        html=f'<div class="controls">{cells.selectors("heatmap", rows)}</div>',
        charts={"heatmap-chart": _chart(ordered)},
        data={"relative_to_dense": rows},
    )


def _rows(
    cells: ScoredCells,
    place: str,
    name: str,
    measure: Measure,
    own: list[Cell],
    status: dict[tuple, set[str]],
) -> Iterator[dict[str, Any]]:
    """Yield a row for every cell of a place but its dense one, for one measure."""
    dense = cells.dense(own[0])
    reference = dense and cells.score(dense, measure)
    shown = [cell for cell in own if not cell.is_dense]
    taken = Counter((_method(cell), _sparsity(cell)) for cell in shown)
    for cell in shown if reference and reference.value else ():
        method, sparsity = _method(cell), _sparsity(cell)
        if taken[method, sparsity] > 1:
            method += f" ({cell.prune})"
        row = {"place": place, "measure": name, "cell": name_of(cell), "method": method}
        row |= {"score": display_names.measure_name(*measure.key)}
        row |= {"sparsity": sparsity, "order": cell.target}
        row |= dict.fromkeys(("ratio", "low", "high"))
        score = cells.score(cell, measure)
        if score is None:
            states = status.get(cell.key, set()) - {"ok"}
            yield row | {"text": min(states, default="no score"), "quality": None}
            continue
        ratio = score.value / reference.value
        row |= {"ratio": ratio, "value": score.value, "dense": reference.value}
        row["quality"] = ratio if measure.higher_is_better else 1 / ratio if ratio else None
        text = f"{ratio:.2f}"
        if effect := cells.effect(cell, dense, measure):
            ends = [effect.low, effect.high]
            if not effect.is_ratio:
                ends = sorted(1 + end / reference.value for end in ends)
            row["low"], row["high"] = ends
            text = interval(text, *(f"{end:.2f}" for end in ends))
        yield row | {"text": text}


def _method(cell: Cell) -> str:
    """Return the label of a cell's line: the method, what is unusual of it, and the tuning."""
    words = [display_names.method_name(cell.method)]
    axes = dict(zip(AXES, cell.axes, strict=True))
    usual = ("uniform", "none", None)
    words += [
        display_names.value_name(axes[name])
        for name in ("units", "allocation", "refine", "update")
        if axes[name] not in usual
    ]
    return f"{', '.join(words)} · {display_names.tuning_name(cell).lower()}"


def _sparsity(cell: Cell) -> str:
    """Return the label of a cell's column."""
    pattern = dict(zip(AXES, cell.axes, strict=True))["pattern"]
    if cell.method == "dense":
        return "not pruned"
    if pattern in (None, "unstructured"):
        return display_names.percent(cell.target)
    if pattern == "structured":
        return f"{display_names.percent(cell.target)} gone"
    return pattern


def _chart(columns: list[str]) -> dict[str, Any]:
    """Return the spec; its "$heatmap-…" stand for what the selectors say."""
    base = altair.Chart(altair.NamedData("relative_to_dense")).transform_filter(
        "datum.measure == '$heatmap-score' && datum.place == '$heatmap-place'"
    )
    axis = altair.Axis(orient="top", labelAngle=0, title="Sparsity", domain=False, ticks=False)
    across = altair.X("sparsity:N", sort=columns, axis=axis)
    down = altair.Y("method:N", sort=None, title=None)
    down.axis = altair.Axis(domain=False, ticks=False, labelLimit=360)
    fields = base.encode(x=across, y=down)
    tips = [
        altair.Tooltip("cell:N", title="model"),
        altair.Tooltip("text:N", title="relative to dense"),
        altair.Tooltip("value:Q", title="score", format=".4~g"),
        altair.Tooltip("dense:Q", title="of dense", format=".4~g"),
    ]
    scale = altair.Scale(scheme="cividis", domain=[0, 1], clamp=True)
    colour = altair.Color("quality:Q", scale=scale, title="Quality compared with dense")
    colour.legend = altair.Legend(format=".0%", values=[0, 0.25, 0.5, 0.75, 1])
    known = fields.transform_filter("isValid(datum.quality)")
    lost = fields.transform_filter("!isValid(datum.quality)")
    ink = altair.condition("datum.quality > 0.45", altair.value("#000"), altair.value("#fff"))
    chart = altair.layer(
        known.mark_rect(cornerRadius=3).encode(color=colour, tooltip=tips),
        lost.mark_rect(cornerRadius=3, color=palette.FAILED, opacity=0.5).encode(tooltip=tips),
        known.mark_text(fontSize=12).encode(text="text:N", color=ink),
        lost.mark_text(fontSize=12, fontStyle="italic").encode(text="text:N"),
    )
    size = {"width": altair.Step(COLUMN), "height": altair.Step(LINE)}
    return chart.properties(**size).to_dict(validate=False)
