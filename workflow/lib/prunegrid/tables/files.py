"""Files of finished tables: each whole, or not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet

from prunegrid import __version__
from prunegrid.artifacts.artifact_folder import read_sealed, sealed
from prunegrid.common.errors import PrunegridError
from prunegrid.common.file_io import file_sha256, write_json
from prunegrid.tables.page.verification import outcome_file
from prunegrid.tables.schema import Column, Plan


def typed_frame(rows: list[dict], columns: Sequence[Column]) -> pandas.DataFrame:
    """Return a frame with the schema's columns first, typed, and the measured ones after them."""
    dtypes = {column.name: column.dtype for column in columns}
    measured = dict.fromkeys(key for row in rows for key in row if key not in dtypes)
    dtypes |= {name: "Int64" if name.endswith("_n") else "Float64" for name in measured}
    return pandas.DataFrame(rows, columns=list(dtypes)).astype(dtypes)


def write_table(
    plan: Plan,
    frames: Mapping[str, pandas.DataFrame],
    pages: Mapping[str, str],
    figures: Mapping[str, Callable[[Path], object]],
    *,
    version: int,
    complete: bool,
    leaves: Mapping[str, str],
    folder: Path,
) -> None:
    """Write the files of a study's table, and last the manifest with their digests.

    Args:
        frames: by what stands before "parquet" in the name; "" is the table. It is written as CSV
            too, without the columns that no row fills.
        pages: texts, by what follows `<study>.` in the name.
        figures: functions that write the other files, named alike.
        leaves: {manifest: content} of the artifacts that were read.
    """
    study = plan["study"]
    about = {"study": study, "key": plan["key"], "schema_version": version}
    about |= {"complete": complete, "prunegrid": __version__}
    writers = {
        f"{name}parquet": lambda path, frame=frame: _write_parquet(frame, path, about)
        for name, frame in frames.items()
    }
    writers |= {
        name: lambda path, text=text: path.write_text(text, encoding="utf-8")
        for name, text in pages.items()
    }
    filled = frames[""].dropna(axis="columns", how="all")  # most columns are of other studies
    writers |= {"csv": lambda path: filled.to_csv(path, index=False), **figures}
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f".{study}.*.tmp"):  # of a writer that was killed
        stale.unlink(missing_ok=True)
    outcome_file(folder / f"{study}.parquet").unlink(missing_ok=True)  # of an earlier table
    digests = {}
    for suffix, write in writers.items():
        path = folder / f"{study}.{suffix}"
        place(path, write)
        digests[path.name] = file_sha256(path)
    plan = {key: value for key, value in plan.items() if key != "pins"}
    manifest = about | {"files": digests, "leaves": leaves, "plan": plan}
    write_json(folder / f"{study}.manifest.json", sealed(manifest))


def place(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file under a temporary name, and `os.replace` it to `path`."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _write_parquet(frame: pandas.DataFrame, path: Path, about: Mapping[str, Any]) -> None:
    """Write a table as Parquet, with facts about it in its metadata."""
    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    facts = {f"prunegrid.{key}": str(value) for key, value in about.items()}
    table = table.replace_schema_metadata({**table.schema.metadata, **facts})
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
