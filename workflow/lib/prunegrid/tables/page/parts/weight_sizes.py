"""The part of a census: how large weights are, as exact counts by bin and over the depth."""

from __future__ import annotations

import altair

from prunegrid.tables.census_figures import by_cell
from prunegrid.tables.page.palette import SERIES
from prunegrid.tables.page.part import PageFacts, Part
from prunegrid.tables.page.tables_html import select

ORDER = 20
TITLE = "How large the weights are"
ROWS = 5000  # of the charts' data, about 0.5 MB
WIDTH = 1100  # pixels at most


def part(facts: PageFacts) -> Part | None:
    """Return the part, None for a study that is no census, or counted nothing (yet)."""
    counted = facts.wide[facts.wide["status"] == "ok"]
    if not facts.is_census or counted.empty:
        return None
    bars, lines, left_out = [], [], 0
    for name, rows in by_cell(counted):
        if len(bars) + len(lines) + len(rows) > ROWS:
            left_out += 1
            continue
        about = rows.assign(cell=name).astype({"share": float, "depth": float})
        whole = about[~about["group"].isin(["block", "kind"])]
        bars += whole[["cell", "group", "bin", "share", "count"]].to_dict("records")
        deep = about[about["depth"].notna()]
        lines += deep[["cell", "stack", "block", "depth", "bin", "share"]].to_dict("records")
    charts, texts = {"census-shares": _shares(bars)}, ['<div id="census-shares"></div>']
    if lines:
        charts["census-depth"] = _over_depth(lines)
        cells = dict.fromkeys(row["cell"] for row in lines)
        chooser = select("census-of", "Model", [(cell, cell) for cell in cells])
        texts.append(f'<div class="controls">{chooser}</div><div id="census-depth"></div>')
    if left_out:
        texts.append(f"<p>{left_out} more models are not shown, to keep the page small.</p>")
    return Part(
        "weight-sizes",
        TITLE,
        "Each bar is the share of a model's weights whose size |w| lies in an interval. These are "
        "exact counts, so there is no margin of error. The lines show the same block by block.",
        html="".join(texts),
        charts=charts,
        data={"census_shares": bars} | ({"census_depth": lines} if lines else {}),
    )


def _shares(rows: list[dict]) -> dict:
    """Return the chart of shares by bin: a bar a model, with embeddings and without."""
    bins, groups = (list(dict.fromkeys(row[name] for row in rows)) for name in ("bin", "group"))
    base = altair.Chart(altair.NamedData("census_shares"))
    tooltip = ["cell:N", "bin:N", altair.Tooltip("share:Q", format=".4%")]
    tooltip.append(altair.Tooltip("count:Q", format=","))
    panels = [
        base.transform_filter(altair.datum.group == group)
        .mark_bar()
        .encode(
            x=altair.X("bin:N", sort=bins).title("|w|").axis(labelAngle=-35),
            xOffset="cell:N",
            y=altair.Y("share:Q").axis(format="%").title("share of the parameters"),
            color=_colour(rows),
            tooltip=tooltip,
        )
        .properties(width=WIDTH, height=200, title="all weights" if group == "all" else group)
        for group in groups
    ]
    return altair.vconcat(*panels).to_dict()


def _over_depth(rows: list[dict]) -> dict:
    """Return the chart of shares over the depth of the chosen model, a line a bin."""
    bins = list(dict.fromkeys(row["bin"] for row in rows))
    colour = altair.Color("bin:N", sort=bins, scale=altair.Scale(scheme="viridis")).title("|w|")
    chart = (
        altair.Chart(altair.NamedData("census_depth"))
        .transform_filter(altair.FieldEqualPredicate(field="cell", equal="$census-of"))
        .transform_filter("datum.share > 0")  # a logarithmic axis has no place for 0
        .mark_line(point=True)
        .encode(
            x=altair.X("depth:Q", scale=altair.Scale(domain=[0, 1]))
            .title("depth of the block")
            .axis(tickCount=10),
            y=altair.Y("share:Q", scale=altair.Scale(type="log"))
            .axis(format="~%")
            .title("share of the block's parameters"),
            color=colour,
            detail="stack:N",
            strokeDash="stack:N",
            tooltip=["stack:N", "block:Q", "bin:N", altair.Tooltip("share:Q", format=".4%")],
        )
        .properties(width=WIDTH, height=260)
    )
    return chart.to_dict()


def _colour(rows: list[dict]) -> altair.Color:
    """Return the colours of models, which all can tell apart."""
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    colours = [SERIES[index % len(SERIES)] for index in range(len(cells))]
    return altair.Color("cell:N", scale=altair.Scale(domain=cells, range=colours)).title(None)
