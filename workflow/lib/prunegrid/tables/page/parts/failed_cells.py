"""The part on cells and controls that are not in the table, and why."""

from __future__ import annotations

from prunegrid.tables.page.part import PageFacts, Part
from prunegrid.tables.page.tables_html import table
from prunegrid.tables.schema import CELL, cell_title

ORDER = 90
TITLE = "Failed and missing cells"


def part(facts: PageFacts) -> Part | None:
    """Return the part, None if every cell and control is in the table."""
    lost = facts.wide[facts.wide["status"] != "ok"]
    rows = [
        {"cell": cell_title(row, CELL), "status": row["status"], "why": row["reason"]}
        for row in lost.to_dict("records")
    ]
    rows += [{"cell": "control", "status": "failed", "why": note} for note in facts.notes]
    if not rows:
        return None
    return Part(
        "failed",
        TITLE,
        "These cells have no numbers. A failed cell says why; a missing one was not reached yet. "
        "Running the study again makes only what is not there.",
        html=table(rows, "failed-cells"),
    )
