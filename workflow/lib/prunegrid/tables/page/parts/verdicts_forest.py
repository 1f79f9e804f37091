"""The part on declared contrasts: their effects as a forest plot, their verdicts in words."""

from __future__ import annotations

from html import escape
from typing import Any

import altair
import pandas

from prunegrid.tables.compared import tested
from prunegrid.tables.figures import display_names
from prunegrid.tables.markdown import number
from prunegrid.tables.page import palette
from prunegrid.tables.page.part import PageFacts, Part
from prunegrid.tables.page.tables_html import table
from prunegrid.tables.schema import Row

ORDER = 30
CHART = "contrasts-chart"
_PLACE, _HOW = '<div id="{}"></div>', "How the verdicts are made"
COLOURS = {"better": "#009E73", "worse": "#D55E00", "undecided": palette.DENSE}


def part(facts: PageFacts) -> Part | None:
    """Return the part, None for a study that declares no contrast."""
    frame = facts.frames.get("contrasts.")
    if frame is None or frame.empty:
        return None
    every = frame.astype(object).where(frame.notna(), None).to_dict("records")
    rows = [_row(row) for row in every if row["value"] is not None]
    charts = {CHART: _chart(rows)} if rows else {}
    return Part(
        "contrasts",
        "Contrasts: what was declared beforehand, and its verdict",
        "Each line is the effect of one choice against another on the same test items, with its "
        "95% interval. Where the interval holds the dashed line, no difference is shown.",
        html=_PLACE.format(CHART) * bool(rows)
        + table([_in_words(row) for row in every], "contrast-verdicts")
        + f'<details id="how-tested"><summary>{_HOW}</summary>{escape(tested(every))}</details>',
        charts=charts,
        data={"contrasts": rows} if rows else {},
    )


def _side(title: str | None) -> str:
    """Return prune / finetune of a side's title `model / data / prune / finetune`."""
    return " / ".join((title or "").split(" / ")[2:])


def _row(row: Row) -> dict[str, Any]:
    verdict = row["verdict"]
    kind = "better" if verdict in ("better", "non-inferior") else "undecided"
    names = ("contrast", "a", "b", "split", "metric", "n", "value", "low", "high", "p_holm")
    measure = display_names.measure_name(row["split"], row["metric"])
    is_ratio = row["effect"] == "ratio"
    return {
        **{name: row[name] for name in names},
        "verdict": verdict,
        "kind": "worse" if verdict == "worse" else kind,
        "label": f"{row['contrast']}: {verdict}",
        "where": f"{measure}: {'a divided by b' if is_ratio else 'a minus b'}",
        "neutral": 1.0 if is_ratio else 0.0,
    }


def _in_words(row: Row) -> dict[str, Any]:
    """Return the line of the table."""
    value, low, high = (number(row[name], ".3f") for name in ("value", "low", "high"))
    verdict = f"no verdict: {row['reason']}" if row["reason"] else row["verdict"]
    if row["verdict"] == "worse" and row["non_inferior"]:
        verdict = "worse, by less than the margin"
    return {
        "contrast": row["contrast"],
        "a": _side(row["a"]),
        "b": _side(row["b"]),
        "score": " ".join(filter(None, (row["split"], row["metric"]))),
        "effect": f"{row['effect']} {value}" + (f" ({low} to {high})" if low else "")
        if value
        else "",
        "n": "" if pandas.isna(row["n"]) else row["n"],
        "p (Holm)": number(row["p_holm"], ".3f"),
        "a against b": verdict,
    }


def _chart(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the spec: a panel a score, as their scales differ."""
    panels = [_panel(place) for place in dict.fromkeys(row["where"] for row in rows)]
    chart = altair.vconcat(*panels, data=altair.NamedData("contrasts"), spacing=26)
    return chart.to_dict(validate=False)


def _panel(place: str) -> Any:
    axis = altair.Axis(labelLimit=330, minExtent=340, maxExtent=340, grid=False)
    base = altair.Chart().encode(y=altair.Y("label:N", title=None, sort=None, axis=axis))
    scale = altair.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    colour = altair.Color("kind:N", scale=scale, title="a is …")
    across = altair.X("value:Q", title=None, scale=altair.Scale(zero=False, padding=14))
    across.axis = altair.Axis(tickCount=6)
    tips = [altair.Tooltip(f"{name}:N") for name in ("contrast", "a", "b", "verdict")]
    tips += [altair.Tooltip(f"{n}:Q", format=".4~g") for n in ("value", "low", "high", "n")]
    point = base.mark_point(filled=True, size=90, opacity=1)
    layers = altair.layer(
        altair.Chart().mark_rule(strokeDash=[4, 3]).encode(x="neutral:Q"),
        base.mark_rule(strokeWidth=2.4).encode(x="low:Q", x2="high:Q", color=colour),
        point.encode(x=across, color=colour, tooltip=tips),
    )
    title = altair.Title(place, anchor="start", fontSize=12, fontWeight="normal")
    layers = layers.transform_filter(altair.FieldEqualPredicate(field="where", equal=place))
    return layers.properties(width=400, height=altair.Step(26), title=title)
