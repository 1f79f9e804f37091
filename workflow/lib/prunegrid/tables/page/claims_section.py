"""The section on published conclusions, which `prunegrid claims` writes into each study's page."""

from __future__ import annotations

from pathlib import Path

import pandas

from prunegrid.tables.page.tables_html import table

FILE = "claims.parquet"
TITLE = "Published conclusions, tested"
HEAD = (
    '<section id="claims" aria-labelledby="claims-title">'
    f'<h2 id="claims-title">{TITLE}</h2><p class="caption">Each conclusion is tested on all '
    "finished studies together. The last columns count the comparisons of this study, and for how "
    "many of them it speaks for the conclusion or against it. claims.md has the numbers.</p>"
)


def section(folder: Path, study: str) -> str:
    """Return the conclusions that a study says something about; "" without any.

    Args:
        folder: of the tables, where `prunegrid claims` leaves its own.
    """
    path = folder / FILE
    if not path.is_file():
        return ""
    frame = pandas.read_parquet(path)
    own = frame[(frame["study"] == study) & frame["in_scope"]]
    rows = [
        {
            "conclusion": name,
            "verdict over all studies": rows["verdict"].iloc[0],
            "comparisons here": len(rows),
            "for": int((rows["speaks"] == "for").sum()),
            "against": int((rows["speaks"] == "against").sum()),
        }
        for name, rows in own.groupby("claim", sort=False)
    ]
    return f"{HEAD}{table(rows, 'claims-of-study')}</section>" if rows else ""
