"""Files of finished tables: whole, or not there."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet

from prunegrid.artifacts.artifact_folder import MANIFEST


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


def await_benchmarks(plan: Mapping[str, Any], seconds: float = 60) -> None:
    """Wait for the tasks that other machines have asked, as long as a network may hide their files.

    Snakemake waits for the files that it knows: of tasks asked by one job, that of the leader
    (`prunegrid.graph.benchmark_batches`). What does not come is missing from the table.
    """
    missing = [
        Path(ref["path"]) for cell in plan["cells"] for ref in cell.get("tasks", {}).values()
    ]
    until = time.monotonic() + seconds
    while missing := [path for path in missing if not (path / MANIFEST).exists()]:
        if time.monotonic() > until:
            return
        for parent in {path.parent for path in missing}:
            with contextlib.suppress(OSError):
                os.listdir(parent)  # has a network file system look again
        time.sleep(min(1.0, seconds))
