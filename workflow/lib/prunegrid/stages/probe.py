"""Stage `probe`: a data set of items that are made here, of the source `probe:<name>`.

It takes the place of the stage `rows`: one split, `all`, whose rows a file of `data/probes/` makes.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pyarrow
import pyarrow.parquet

from prunegrid.data.sources.fetched import facts
from prunegrid.stages.data import slice_of_all

DOES = "write"
PACKAGES = ("pyarrow", "datasets")
START_SECONDS = 5
MEMORY_MB = 500


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {source, splits: {name: from, rows, columns}} after writing each split.

    Args:
        settings: source {"kind": "probe", "name"}, splits {name: slice of "all"}.

    Raises:
        PrunegridError: a split is no slice of all, or is empty.
    """
    name = settings["source"]["name"]
    items = importlib.import_module(f"prunegrid.data.probes.{name}").items()
    listed = {}
    for split, expression in settings["splits"].items():
        first, last = slice_of_all(expression, len(items), job.where)
        table = pyarrow.Table.from_pylist(items[first:last])
        pyarrow.parquet.write_table(table, out / f"{split}.parquet", compression="zstd")
        listed[split] = {"from": expression, "rows": len(table), "columns": table.column_names}
    return {"source": facts(settings["source"], None, None, {}), "splits": listed}
