"""Stage `rows`: a data set's splits with the columns that the source has, nested ones too.

Benchmarks read these, and mixtures. Splits and slices are those of the stage `data`; nothing is
renamed or joined, so a local file of the same columns can take the place of the hub's.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from prunegrid.artifacts import artifact_folder
from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources.fetched import describe
from prunegrid.stages.data import bounds, open_source, parse

DOES = "download"
RULE = "rows"
PACKAGES = ("pandas", "pyarrow", "datasets", "huggingface-hub")
START_SECONDS = 60
MEMORY_MB = 900

log = logging.getLogger(__name__)


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {source, splits: {name: from, rows, columns}} after writing each split.

    Args:
        settings: source, format, splits {name: expression}.
        parents: none.
        out: an empty folder; gets `<split>.parquet`.
        job: its `where` labels errors, its `scratch` holds what `datasets` unpacks.

    Raises:
        PrunegridError: the source cannot be had, or a split is missing or empty.
    """
    where = f"{job.where} ({describe(settings['source'])})"
    wanted = {name: parse(text, where) for name, text in settings["splits"].items()}
    unpacked = Path(job.scratch) / "datasets"
    sizes, record = open_source(settings, wanted, unpacked, where)
    listed = {}
    for name, (split, part) in wanted.items():
        first, last = bounds(split, part, len(sizes[split]), where)
        table = table_of(sizes[split], first, last, where)
        artifact_folder.require_space(out, table.nbytes)
        pyarrow.parquet.write_table(table, out / f"{name}.parquet", compression="zstd")
        names = table.column_names
        listed[name] = {"from": split + part, "rows": len(table), "columns": names}
        log.info("%s: %s: %d rows of %s", where, name, len(table), ", ".join(names))
    del sizes
    shutil.rmtree(unpacked, ignore_errors=True)
    return {"source": record, "splits": listed}


def table_of(rows: Any, first: int, last: int, where: str) -> pyarrow.Table:
    """Return rows `first` to `last` - 1 as a table.

    Args:
        rows: a list of dicts, or a `datasets.Dataset`.

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
