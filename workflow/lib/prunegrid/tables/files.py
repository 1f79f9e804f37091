"""Files of finished tables: whole, or not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet


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
