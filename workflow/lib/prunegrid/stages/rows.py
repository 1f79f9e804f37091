"""Stage `rows`: a data set's splits with the columns that the source has, nested ones too.

Benchmarks and mixtures read them. Splits and slices are those of the stage `data`; nothing is
renamed or joined, so a local file of the same columns can take the place of the hub's.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from prunegrid.artifacts import artifact_folder
from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources.fetched import describe
from prunegrid.stages.data import bounds, open_source, parse

DOES = "download"
PACKAGES = ("pandas", "pyarrow", "datasets", "huggingface-hub")
START_SECONDS = 60
MEMORY_MB = 900

log = logging.getLogger(__name__)


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {source, splits: {name: from, rows, columns}} after writing each split.

    Args:
        settings: source, format, splits {name: expression}.

    Raises:
        PrunegridError: the source cannot be read, or a split is missing or empty.
    """
    where = f"{job.where} ({describe(settings['source'])})"
    listed = {}
    with open_source(settings, job, where) as (sources, record):
        for name, expression in settings["splits"].items():
            split, part = parse(expression, where)
            first, last = bounds(split, part, len(sources[split]), where)
            table = table_of(sources[split], first, last, where)
            artifact_folder.require_space(out, table.nbytes)
            pyarrow.parquet.write_table(table, out / f"{name}.parquet", compression="zstd")
            names = table.column_names
            listed[name] = {"from": split + part, "rows": len(table), "columns": names}
            log.info("%s: %s: %d rows of %s", where, name, len(table), ", ".join(names))
    return {"source": record, "splits": listed}


def table_of(rows: Any, first: int, last: int, where: str) -> pyarrow.Table:
    """Return rows `first` to `last` - 1 of a list of dicts or a `datasets.Dataset` as a table.

    Raises:
        PrunegridError: values of one column are of different kinds.
    """
    if not isinstance(rows, list):
        return rows.with_format("arrow")[first:last].replace_schema_metadata(None)
    taken = rows[first:last]
    names = dict.fromkeys(name for row in taken for name in row)
    try:
        return pyarrow.table({name: [row.get(name) for row in taken] for name in names})
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError) as error:
        raise PrunegridError(
            f"the values of a column are of different kinds ({error})",
            where=where,
            remedy="give each column one kind of value",
        ) from error
