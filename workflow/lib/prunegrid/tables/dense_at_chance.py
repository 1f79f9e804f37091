"""Tasks that the dense model cannot do both ways: what pruning does to them ranks no model.

`recognised` says how often a model chooses the right option, `produced` how often it writes it. The
share that is recognised and not produced says something of pruning only where the dense model does
both better than chance. Elsewhere all scores of the task stand in the table and rank nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from prunegrid.tables.schema import Row

BOTH = ("recognised", "produced")


def mark(long: Iterable[Row]) -> list[str]:
    """Mark the scores of such tasks as at chance, in place; return a sentence for each task.

    Args:
        long: rows of all cells. A model without a dense row is not marked.
    """
    places: dict[tuple, list[Row]] = {}
    for row in long:
        places.setdefault((row.get("model"), row.get("dataset"), row["split"]), []).append(row)
    notes = []
    for (model, _, split), rows in places.items():
        dense = [row for row in rows if row["metric"] in BOTH and _is_untouched(row)]
        if not any(row["at_chance"] for row in dense):
            continue
        for row in rows:
            row["at_chance"] = True
        known = {row["metric"]: f"{row['metric']} {row['value']:.2f}" for row in dense}
        notes.append(
            f"{split}: dense {model} is not above chance ({dense[0]['chance']:.2f}) both ways "
            f"({', '.join(known.values())}), so it ranks no model"
        )
    return notes


def _is_untouched(row: Row) -> bool:
    return row.get("prune") == "dense" and row.get("finetune") == "none"
