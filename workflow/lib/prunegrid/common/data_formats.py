"""Formats of data files, by the endings of their names."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePath

# One table for the config, for local files and for files of the hub.
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".text": "text",
    ".xml": "mediawiki",
    ".bz2": "mediawiki",
}


def format_of(name: str | PurePath, packed: Collection[str] = (".gz",)) -> str | None:
    """Return the format of a data file, None if its ending is not in the table.

    Args:
        packed: endings of packed files; one of them may follow the format's own ending.
    """
    path = PurePath(str(name).lower())
    if path.suffix in packed:
        path = path.with_suffix("")
    return FORMATS.get(path.suffix)


def is_tabbed(name: str | PurePath) -> bool:
    """Return whether tabs separate the columns of a `csv` file of this name."""
    return ".tsv" in PurePath(str(name).lower()).suffixes
