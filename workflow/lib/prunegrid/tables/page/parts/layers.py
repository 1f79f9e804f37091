"""The part on layers: how much of each linear is zero, what that costs its output, units left."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import altair
import pandas

from prunegrid.tables.markdown import filled, number
from prunegrid.tables.page.palette import FAILED, SERIES
from prunegrid.tables.page.part import PageFacts, Part
from prunegrid.tables.page.step_reports import manifest_of, report_of
from prunegrid.tables.page.tables_html import select, table
from prunegrid.tables.schema import CELL, Plan, Row, cell_title

ORDER = 40
TITLE = "Layers: where the weights went"
ROWS = 8000  # of the charts' data, about 0.6 MB
SPREAD = 5.0  # percentage points that colours span at least: rounding is no allocation
WIDTH, LINE = 1100, 18  # pixels of a chart, and of one linear's line in it
_PLACE = re.compile(r"(?:(?P<stack>.*?)\.)?(?P<block>\d+)(?:\.(?P<linear>.+))?")
_EXPERT = re.compile(r"\.\d+(?=\.|$)")


@dataclass(frozen=True)
class Pruned:
    """The last pruning of one or more cells, and the step that refitted its linears, if any."""

    columns: Row  # of the first of these cells
    report: Mapping[str, Any]  # its prune.json
    first: Mapping[str, Any]  # prune.json of the chain's first pruning of whole units, or itself
    weights: Mapping[str, Any]  # the record of its weights
    errors: Mapping[str, float]  # linear → squared error of its output, as a share of the output


def part(facts: PageFacts) -> Part | None:
    """Return the part, None for a study without a pruned cell (or a census)."""
    if facts.is_census:
        return None
    prunings, gone = _prunings(facts.plan)
    linears, units, errors, records, left_out = [], [], [], [], 0
    for name, pruned in zip(_names(prunings), prunings, strict=True):
        own = [list(rows(pruned)) for rows in (_linears, _units, _errors)]
        if len(linears) + len(units) + len(errors) + sum(map(len, own)) > ROWS:
            left_out += 1
            continue
        records.append({"pruning": name} | _measured(pruned.weights))
        for rows, more in zip((linears, units, errors), own, strict=True):
            rows += [{"cell": name, **row} for row in more]
    if not linears and not units and not gone:
        return None
    data = {"linears": linears, "errors": errors, "units": units}
    counted = filled(pandas.DataFrame(records)).to_dict("records") if records else []
    charts, texts = {}, [table(counted)]
    for name, draw in _CHARTS.items():
        if data[name]:
            charts[f"layers-{name}"] = draw(data[name]).to_dict()
            cells = dict.fromkeys(row["cell"] for row in data[name])
            options = [(cell, cell) for cell in cells]
            chooser = select(f"layers-of-{name}", _CHOICES[name], options)
            texts.append(f'<div class="controls">{chooser}</div><div id="layers-{name}"></div>')
    texts += [
        f"<p>{escape(note)}</p>"
        for note in _notes(gone, left_out, is_unknown=bool(records) and not errors)
    ]
    return Part(
        "layers",
        TITLE,
        "Choose a pruning to see how much every block and linear of the model lost. A method with "
        "an allocation (OWL, by error) spares some layers more than others; without one all "
        "layers lose the same share. The table has what was counted on the pruned weights: the "
        "share of zeros, or of weights removed, and the share that was left dense.",
        html="".join(texts),
        charts=charts,
        data={f"layers_{name}": rows for name, rows in data.items() if rows},
    )


def _prunings(plan: Plan) -> tuple[list[Pruned], list[str]]:
    """Return the prunings of a plan, each once, and the names of cells whose report is gone."""
    prunings: dict[tuple, Pruned] = {}
    gone = []
    for cell in plan["cells"]:
        steps = cell["chain"]
        places = [index for index, ref in enumerate(steps) if ref["stage"] == "prune"]
        if not places:
            continue
        reports = [report_of(steps[index], "prune.json") for index in places]
        last, first = reports[-1], next((r for r in reports if r and "blocks" in r), None)
        if last is None:
            gone.append(cell_title(cell["columns"]))
            continue
        after = [ref for ref in steps[places[-1] + 1 :] if ref["stage"] == "transform"]
        refits = [(ref, (report_of(ref, "transform.json") or {}).get("linears")) for ref in after]
        ref, story = next(((ref, story) for ref, story in refits if story), ({}, {}))
        story = story or last.get("corrected", last)
        named = ((name, f.get("error_after", f.get("output_error"))) for name, f in story.items())
        errors = {name: error for name, error in named if error is not None}
        key = (steps[places[-1]]["key"], ref.get("key"))
        columns = dict(cell["columns"])
        columns["finetune"] = columns["finetune"] if ref else None
        weights = (manifest_of(steps[places[-1]]) or {}).get("record", {}).get("weights", {})
        prunings.setdefault(key, Pruned(columns, last, first or last, weights, errors))
    return list(prunings.values()), gone


def _names(prunings: list[Pruned]) -> list[str]:
    """Return a name of each pruning: of what tells cells apart, that in which these differ."""
    columns = pandas.DataFrame([pruned.columns for pruned in prunings], columns=list(CELL))
    several = [n for n in CELL if n in ("prune", "finetune") or columns[n].nunique() > 1]
    names = [cell_title(pruned.columns, several) for pruned in prunings]
    # Cells of several seeds may share their names.
    return [
        name if names.count(name) == 1 else f"{name} ({names[: i + 1].count(name)})"
        for i, name in enumerate(names)
    ]


def _measured(weights: Mapping[str, Any]) -> dict[str, str]:
    """Return what the record of a pruned model's weights says, in a few columns."""
    shares = {"zeros": "sparsity_prunable", "removed": "removed_prunable"}
    dense = {"excluded": "excluded_share", "routers": "router_share"}
    dense |= {"not reached": "uncalled_share"}
    texts = {title: number(weights.get(name), ".2%") for title, name in shares.items()}
    texts |= {title: number(weights.get(name) or None, ".2%") for title, name in dense.items()}
    valid = weights.get("nm_valid")
    return texts | {"N:M": "" if valid is None else f"{weights['pattern']} in every group"}


def _linears(pruned: Pruned) -> Iterator[dict[str, Any]]:
    """Yield a row for each linear of each block; the experts of a block are one linear."""
    if "blocks" in pruned.report:
        return
    counts: dict[tuple, list[int]] = {}
    for place, facts in _placed(pruned.report):
        sizes = counts.setdefault(place, [0, 0])
        sizes[0] += facts["zeros"]
        sizes[1] += math.prod(facts["shape"])
    zeros, weights = (sum(column) for column in zip(*counts.values(), strict=True))
    for (block, linear), (zero, size) in counts.items():
        row = {"block": block, "linear": linear, "zeros": zero, "weights": size}
        # How much more than in the whole model, in percentage points.
        points = 100 * (zero / size - zeros / weights)
        yield row | {"sparsity": round(zero / size, 6), "points": round(points, 4)}


def _errors(pruned: Pruned) -> Iterator[dict[str, Any]]:
    """Yield a row for each linear whose output's error was measured; of experts the mean."""
    errors: dict[tuple, list[float]] = {}
    for place, error in _placed(pruned.errors):
        errors.setdefault(place, []).append(error)
    for (block, linear), values in errors.items():
        yield {"block": block, "linear": linear, "error": sum(values) / len(values)}


def _units(pruned: Pruned) -> Iterator[dict[str, Any]]:
    """Yield a row for each block and kind of unit: how many are left of how many."""
    before_any = dict(_placed(pruned.first.get("blocks", {})))
    for place, kinds in _placed(pruned.report.get("blocks", {})):
        block, _ = place
        for kind, facts in kinds.items():
            before = before_any.get(place, {}).get(kind, facts)["units"]
            left = facts["units"] - facts["removed"]
            yield {"block": block, "kind": kind, "left": left, "before": before}


def _placed(named: Mapping[str, Any]) -> list[tuple[tuple[str, str], Any]]:
    """Return ((block, linear), value) of values by full name, in the order of the model.

    Blocks have their stack's name too where there are several; the experts of a block are one.
    """
    found = [(_PLACE.fullmatch(name), name, value) for name, value in named.items()]
    several = len({match["stack"] for match, *_ in found if match}) > 1
    placed = []
    for match, name, value in found:
        stack, number, linear = match.groups() if match else ("", math.inf, name)
        linear = _EXPERT.sub(".*", linear or "") if "experts." in (linear or "") else linear or ""
        block = f"{stack} {number}" if several and match else str(number) if match else "outside"
        placed.append(((stack or "", float(number)), ((block, linear), value)))
    return [entry for _, entry in sorted(placed, key=lambda each: each[0])]


def _notes(gone: list[str], left_out: int, *, is_unknown: bool) -> Iterator[str]:
    """Yield the sentences below the charts."""
    if is_unknown:
        yield (
            "The relative error of a linear's output is not known here: these prunings saw no "
            "inputs, or removed whole units without a correction."
        )
    if left_out:
        yield f"{left_out} more prunings are not shown, to keep the page small."
    if gone:
        listed = "; ".join(gone[:5]) + (f"; and {len(gone) - 5} more" if len(gone) > 5 else "")
        yield f"Not shown, as no report of their pruning is there (yet): {listed}."


def _linears_chart(rows: Sequence[Row]) -> altair.VConcatChart:
    """Return the charts of linears: the share of zeros by block, and who lost more than others."""
    span = max(SPREAD, *(abs(row["points"]) for row in rows))
    base, axis = _chosen("linears"), _axis(rows)
    blocks = (
        base.transform_aggregate(zeros="sum(zeros)", weights="sum(weights)", groupby=["block"])
        .transform_calculate(share="datum.zeros / datum.weights")
        .mark_bar(color=SERIES[0])
        .encode(
            x=axis,
            y=altair.Y("share:Q", scale=altair.Scale(domain=[0, 1]))
            .axis(format="%")
            .title("zeros"),
            tooltip=["block:N", altair.Tooltip("share:Q", format=".2%", title="zeros")],
        )
        .properties(width=WIDTH, height=110, title="Share of zeros, by block: $layers-of-linears")
    )
    scale = altair.Scale(scheme="blueorange", domain=[-span, span])
    colour = altair.Color("points:Q", scale=scale).title(["points above", "the mean"])
    tooltip = ["block:N", "linear:N", altair.Tooltip("sparsity:Q", format=".3%")]
    tooltip += [altair.Tooltip("points:Q", format="+.2f"), altair.Tooltip("weights:Q", format=",")]
    title = "Zeros of each linear against the model's mean, in percentage points"
    linears = _grid(base.encode(x=axis, color=colour, tooltip=tooltip), rows, title)
    return altair.vconcat(blocks, linears).resolve_scale(color="independent")


def _units_chart(rows: Sequence[Row]) -> altair.VConcatChart:
    """Return the charts of whole units: those left, by block, a line a kind."""
    base = _chosen("units")
    most: dict[str, int] = {}
    for row in rows:
        most[row["kind"]] = max(most.get(row["kind"], 0), row["before"])
    charts = [
        base.transform_filter(altair.datum.kind == kind)
        .transform_calculate(gone="datum.before - datum.left")
        .transform_fold(["left", "gone"], as_=["what", "units"])
        .mark_bar()
        .encode(
            x=_axis(rows),
            y=altair.Y("units:Q").title(kind).axis(tickCount=min(most[kind], 5)),
            color=altair.Color(
                "what:N", scale=altair.Scale(domain=["left", "gone"], range=[SERIES[0], FAILED])
            ).title(None),
            order=altair.Order("what:N", sort="descending"),
            tooltip=["block:N", "left:Q", altair.Tooltip("before:Q", title="of")],
        )
        .properties(width=WIDTH, height=110, title=f"{kind} left, by block: $layers-of-units")
        for kind in most
    ]
    return altair.vconcat(*charts)


def _errors_chart(rows: Sequence[Row]) -> altair.Chart:
    """Return the chart of errors: which linears' outputs changed most."""
    scale = altair.Scale(scheme="viridis", domainMin=0)
    colour = altair.Color("error:Q", scale=scale).legend(format="%").title("error")
    tooltip = ["block:N", "linear:N", altair.Tooltip("error:Q", format=".3%")]
    base = _chosen("errors").encode(x=_axis(rows), color=colour, tooltip=tooltip)
    title = "Squared error of each linear's output, as a share of its square: $layers-of-errors"
    return _grid(base, rows, title)


def _chosen(name: str) -> altair.Chart:
    """Return a chart of a data set's rows, of the pruning that its selector names."""
    chart = altair.Chart(altair.NamedData(f"layers_{name}"))
    own = altair.FieldEqualPredicate(field="cell", equal=f"$layers-of-{name}")
    return chart.transform_filter(own)


def _axis(rows: Sequence[Row]) -> altair.X:
    """Return the axis of blocks, in the order of the model."""
    order = list(dict.fromkeys(row["block"] for row in rows))
    return altair.X("block:N", sort=order).title("block").axis(labelOverlap=True, labelAngle=0)


def _grid(base: altair.Chart, rows: Sequence[Row], title: str) -> altair.Chart:
    """Return a chart with a cell for each block and linear."""
    linears = list(dict.fromkeys(row["linear"] for row in rows))
    return (
        base.mark_rect(stroke="white")
        .encode(y=altair.Y("linear:N", sort=linears).title(None).axis(labelLimit=240))
        .properties(width=WIDTH, height=altair.Step(LINE), title=title)
    )


# The name of each chart's selector.
_CHOICES = {"linears": "Zeros of", "errors": "Errors of", "units": "Units left by"}
_CHARTS = {"linears": _linears_chart, "errors": _errors_chart, "units": _units_chart}
