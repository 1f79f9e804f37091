"""Formats of data files, by the endings of their names; packed files opened as plain ones."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Collection
from pathlib import Path, PurePath
from typing import IO

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


_OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
PACKED = tuple(_OPENERS)
# Endings of files that are packed in a way that is not unpacked here.
UNREAD = (".zst", ".zstd", ".lz4", ".zip", ".7z", ".br", ".rar", ".tar", ".tgz")


def format_of(name: str | PurePath, packed: Collection[str] = PACKED) -> str | None:
    """Return the format of a data file, None if its ending is not in the table.

    Args:
        packed: endings of packed files; one of them may follow the format's own ending. A `.bz2`
            without another ending that is known is a dump.
    """
    path = PurePath(str(name).lower())
    inner = path.with_suffix("") if path.suffix in packed else path
    return FORMATS.get(inner.suffix) or FORMATS.get(path.suffix)


def unpacked(path: Path, mode: str = "rt") -> IO:
    """Return a file opened as UTF-8 text or (mode "rb") as bytes, unpacked by its ending."""
    options = {} if mode == "rb" else {"encoding": "utf-8-sig", "newline": ""}
    return _OPENERS.get(path.suffix.lower(), open)(path, mode, **options)


def is_tabbed(name: str | PurePath) -> bool:
    """Return whether tabs separate the columns of a `csv` file of this name."""
    return ".tsv" in PurePath(str(name).lower()).suffixes
