"""The part with the long tables: a line a cell, and every score."""

from __future__ import annotations

from typing import Any

import pandas

from prunegrid.tables.figures import display_names
from prunegrid.tables.headline import headline, is_perplexity, measures_of
from prunegrid.tables.markdown import between, filled, kept_together, number
from prunegrid.tables.page.part import PageFacts, Part
from prunegrid.tables.page.tables_html import SCROLL, table
from prunegrid.tables.schema import CELL, cell_key

ORDER = 50
TITLE = "Table: every model and every score"
SCORES = 6000  # of the table of every score: about 0.7 MB
_SEARCH = (
    '<div class="controls"><label>Search <input type="search" id="{id}-search" '
    'autocomplete="off"></label> <span id="{id}-count" role="status"></span></div>'
)
_SHOWN = ("kind", "name", "dataset", "seed", "split", "metric", "value", "low", "high", "n")
_MORE = ("chance", "at_chance", "near_dense", "flagged", "learned_share", "contexts_cut")
_MORE += ("shots", "stderr")


def part(facts: PageFacts) -> Part | None:
    """Return the part, None for a census."""
    if facts.is_census:
        return None
    cells = table(_cells(facts), "cells")
    cells = cells.replace("<table ", '<table data-search="cells-search" data-count="cells-count" ')
    scores = facts.tall[facts.tall["value"].notna()]
    note = ""
    if len(scores) > SCORES:
        pairs = set(headline(facts.plan, scores))
        scores = scores[pandas.MultiIndex.from_frame(scores[["split", "metric"]]).isin(pairs)]
        scores = scores.head(SCORES)
        study = facts.plan["study"]
        note = f"<p>Only the main scores are here; {study}.long.parquet has all.</p>"
    every = "<h3>Every score</h3>" + note + _SEARCH.format(id="scores")
    every += f'{SCROLL}<table id="scores" data-rows="scores" '
    every += 'data-search="scores-search" data-count="scores-count"></table></div>'
    return Part(
        "table",
        TITLE,
        "Each line is one model, with its scores and their 95% intervals over test items. A click "
        "on a heading sorts the table; the search keeps the lines that have all words.",
        html=_SEARCH.format(id="cells") + cells + (every if len(scores) else ""),
        data={"scores": scores[[*_SHOWN, *_MORE]].to_dict("records")} if len(scores) else {},
    )


def _cells(facts: PageFacts) -> list[dict[str, Any]]:
    """Return a line for every cell; columns that none fills are left out."""
    rows = facts.tall[facts.tall["kind"] == "cell"]
    scores = {(*cell_key(row), row["split"], row["metric"]): row for row in rows.to_dict("records")}
    # The scores of the figure come first: in a narrow window the last columns are out of sight.
    first = [measure.key for measure in measures_of(facts.plan, facts.tall)]
    pairs = list(dict.fromkeys([*first, *headline(facts.plan, rows)]))
    lines = []
    told = ["prune", "finetune", *(n for n in CELL if facts.wide[n].nunique() > 1)]
    shown = [name for name in CELL if name in told]
    for row in facts.wide.to_dict("records"):
        line = {name: "" if pandas.isna(row[name]) else row[name] for name in shown}
        line["zeros"] = number(row["sparsity_effective"], ".1%")
        line["removed"] = number(row["removed_prunable"], ".1%")
        for pair in pairs:
            line[display_names.measure_name(*pair)] = _score(scores.get((*cell_key(row), *pair)))
        line["MB"] = number(row["file_bytes"], ",.1f", 1e-6)
        line["MB without zeros"] = number(row["bytes_packed"], ",.1f", 1e-6)
        line["decode tokens/s"] = number(row["decode_tokens_per_second"], ",.1f")
        line["training s"] = number(row["train_seconds"], ",.0f")
        line["status"] = "" if row["status"] == "ok" else row["status"]
        line["weights"] = "" if pandas.isna(row["weights_sha256"]) else row["weights_sha256"][:8]
        lines.append(line)
    return filled(pandas.DataFrame(lines)).to_dict("records")


def _score(row: dict[str, Any] | None) -> str:
    """Return a score with its interval; a line may end between the two alone."""
    if row is None:
        return ""
    form = ".1f" if is_perplexity(row["metric"]) else ".3f"
    value, low, high = (number(row[name], form) for name in ("value", "low", "high"))
    return f"{value} ({kept_together(between(low, high))})" if low else value
