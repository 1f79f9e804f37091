"""The part on numbers from elsewhere: known values, published rows, and conclusions tested."""

from __future__ import annotations

from html import escape

import pandas

from prunegrid.tables.markdown import number
from prunegrid.tables.page.part import PageFacts, Part
from prunegrid.tables.page.tables_html import table

ORDER = 80
CLAIMS = "claims.parquet"


def part(facts: PageFacts) -> Part | None:
    """Return the part, None for a study beside which nothing is known or was concluded."""
    html = _known(facts) + _published(facts) + _claims(facts)
    if not html:
        return None
    return Part(
        "elsewhere",
        "Elsewhere: known values, published rows, conclusions",
        "These numbers and sentences come from others. They stand beside what was measured here.",
        html=html,
    )


def _known(facts: PageFacts) -> str:
    rows = [
        {
            "cells": row["cells"],
            "column": row["column"],
            "expected": f"{row['expected']:g}",
            "found": number(row["found"], ".2f"),
            "source": row["source"],
            "verdict": row["fault"] or "as expected",
        }
        for row in facts.known
    ]
    return "<h3>Known values</h3>" + table(rows, "known-values") if rows else ""


def _published(facts: PageFacts) -> str:
    published = facts.plan.get("published")
    if not published:
        return ""
    names = list(dict.fromkeys(name for row in published["rows"] for name in row))
    rows = [{n: "" if row.get(n) is None else row[n] for n in names} for row in published["rows"]]
    return (
        '<h3>Published rows</h3><p class="flag"><b>Not attested:</b> nothing shows which weights '
        f"gave these numbers. Source: {escape(published['source'])}</p>"
        + table(rows, "published-rows")
    )


def _claims(facts: PageFacts) -> str:
    """Return the conclusions of `prunegrid claims` that this study says something about."""
    path = facts.results / CLAIMS
    if not path.is_file():
        return ""
    frame = pandas.read_parquet(path)
    own = frame[(frame["study"] == facts.plan["study"]) & frame["in_scope"]]
    rows = [
        {
            "conclusion": name,
            "verdict over all studies": rows["verdict"].iloc[0],
            "comparisons of this study": len(rows),
            "for": int((rows["speaks"] == "for").sum()),
            "against": int((rows["speaks"] == "against").sum()),
        }
        for name, rows in own.groupby("claim", sort=False)
    ]
    head = "<h3>Published conclusions, tested</h3><p>From claims.md, as it was when this page was "
    return head + "written.</p>" + table(rows, "claims") if rows else ""
