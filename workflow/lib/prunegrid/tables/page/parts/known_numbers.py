"""The part on numbers from elsewhere: known values, and published rows."""

from __future__ import annotations

from html import escape

from prunegrid.tables.compared import expected_rows
from prunegrid.tables.page.part import PageFacts, Part
from prunegrid.tables.page.tables_html import table

ORDER = 80
TITLE = "Elsewhere: known values and published rows"


def part(facts: PageFacts) -> Part | None:
    """Return the part, None for a study beside which no number is known."""
    html = _known(facts) + _published(facts)
    if not html:
        return None
    return Part(
        "elsewhere",
        TITLE,
        "These numbers come from others. They stand beside what was measured here.",
        html=html,
    )


def _known(facts: PageFacts) -> str:
    rows = expected_rows(facts.known)
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
