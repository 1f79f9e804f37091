"""Stage `numbers`: a data set of number names in three languages, made here and not fetched.

It takes the place of the stage `data` for the source `numbers:`: one split, `all`, of SIZE rows
{id, en, de, fr}, of which the columns of the data set choose a document and its translation. The
rows are in a scattered order, so that every slice has numbers of all sizes.
"""

from __future__ import annotations

from pathlib import Path

from prunegrid.data.number_names import LANGUAGES, name
from prunegrid.data.sources import columns
from prunegrid.stages.data import check_apart, slice_of_all, write

DOES = "write"
PACKAGES = ("pandas", "pyarrow", "datasets")
START_SECONDS = 5
MEMORY_MB = 500

SIZE = 2000
STRIDE = 1237  # a prime that is no divisor of SIZE: each number comes once


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {source, kind, splits, same_texts} after writing `<split>.parquet` each.

    Args:
        settings: kind ("summaries" or "text"), columns, splits {name: slice of "all"}.

    Raises:
        PrunegridError: a split is no slice of all, or is empty.
    """
    rows = [
        {"id": str(n), **{language: name(n, language) for language in LANGUAGES}}
        for n in (i * STRIDE % SIZE for i in range(SIZE))
    ]
    splits, listed = {}, {}
    named = {"id": "id", **settings["columns"]}
    for split, expression in settings["splits"].items():
        first, last = slice_of_all(expression, SIZE, job.where)
        taken = rows[first:last]
        splits[split] = columns.convert(taken, settings["kind"], named, "all", first, job.where)
        listed[split] = {"from": expression, "rows": len(splits[split])}
        listed[split]["sha256"] = write(splits[split], split, out, job.where)
    return {
        "source": {"kind": "numbers", "name": "numbers:", "rows": SIZE},
        "kind": settings["kind"],
        "splits": listed,
        "same_texts": check_apart(splits, settings["kind"], job.where),
    }
