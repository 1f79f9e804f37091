"""The part on controls: texts that no model wrote, beside the best cell, and metrics they win."""

from __future__ import annotations

from html import escape

import pandas

from prunegrid.tables.headline import headline
from prunegrid.tables.markdown import interval, kept_together, number
from prunegrid.tables.page.part import PageFacts, Part
from prunegrid.tables.page.tables_html import table
from prunegrid.tables.render import flagged_sentences

ORDER = 70
TITLE = "Controls: what scores without a model"


def part(facts: PageFacts) -> Part | None:
    """Return the part, None for a study without controls."""
    frame = facts.frames.get("controls.")
    if frame is None or frame.empty:
        return None
    pairs = set(headline(facts.plan, facts.tall))
    rows = [row for row in frame.to_dict("records") if (row["split"], row["metric"]) in pairs]
    told = "".join(f'<p class="flag">{escape(text)}</p>' for text in flagged_sentences(frame))
    return Part(
        "controls",
        TITLE,
        "A control is a text that no model wrote, such as the first words of the document. A "
        "gaming control is one that no reader would take for an answer. A metric on which it beats "
        "the best model says nothing alone.",
        html=told + table([_line(row) for row in rows], "control-scores"),
    )


def _line(row: dict) -> dict[str, str]:
    names = ("role", "name", "split", "metric")
    ends = (number(row[f"difference_{end}"], ".3f") for end in ("low", "high"))
    beats = "" if pandas.isna(row["beats"]) else "yes" if row["beats"] else "no"
    return {
        **{name: row[name] for name in names},
        "value": number(row["value"], ".3f"),
        "best model": "" if pandas.isna(row["best"]) else row["best"],
        "its value": number(row["best_value"], ".3f"),
        "difference": kept_together(interval(number(row["difference"], "+.3f"), *ends)),
        "beats it": beats,
    }
