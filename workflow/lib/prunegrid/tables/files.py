"""Files of finished tables: whole, or not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet

from prunegrid.artifacts.artifact_folder import read_sealed
from prunegrid.common.errors import PrunegridError
from prunegrid.common.file_io import file_sha256
from prunegrid.tables.schema import Column


def sweep(folder: Path, study: str) -> None:
    """Remove what a killed writer of a study's table has left half-written."""
    for stale in folder.glob(f".{study}.*.tmp"):
        stale.unlink(missing_ok=True)


def place(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file under a temporary name, and `os.replace` it to `path`."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_parquet(frame: pandas.DataFrame, path: Path, about: Mapping[str, Any]) -> None:
    """Write a table as Parquet, with facts about it in its metadata."""
    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    metadata = {f"prunegrid.{key}": str(value) for key, value in about.items()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    pyarrow.parquet.write_table(table, path)


def read_parquet(table: Path, kind: str, columns: Sequence[Column]) -> pandas.DataFrame:
    """Return a study's table, or one of those beside it, as it was written.

    Args:
        table: `results/<study>.parquet`.
        kind: "" for itself, ".long", ".pairs".
        columns: that it must have.

    Raises:
        PrunegridError: it is missing, changed, no study's, or of another version's columns.
    """
    if "." in table.stem or table.suffix != ".parquet":
        expected = "results/<study>.parquet"
        raise PrunegridError("is no study's table", where=str(table), expected=expected)
    path = table.with_name(f"{table.stem}{kind}.parquet")
    if not path.is_file():
        raise PrunegridError("there is no such table", where=str(path))
    manifest, remedy = table.with_suffix(".manifest.json"), f"run `snakemake {table}` again"
    files = read_sealed(manifest).get("files", {}) if manifest.exists() else {}
    if path.name in files and file_sha256(path) != files[path.name]:
        what = "not the file that the table's manifest records"
        raise PrunegridError(what, where=str(path), remedy=remedy)
    frame = pandas.read_parquet(path)
    missing = [column.name for column in columns if column.name not in frame]
    if missing:
        remedy = f"it was made by another version: {remedy}"
        raise PrunegridError(f"it has no column {missing[0]}", where=str(path), remedy=remedy)
    return frame
