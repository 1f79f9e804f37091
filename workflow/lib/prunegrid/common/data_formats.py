"""Formats of data files, by the endings of their names; packed files opened as plain ones."""

from __future__ import annotations

import bz2
import fnmatch
import gzip
import lzma
import re
from collections.abc import Collection
from pathlib import Path, PurePath
from typing import IO

from prunegrid.common.errors import PrunegridError, nearest

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


def chosen(names: Collection[str], rule: str) -> list[str]:
    """Return the names that a rule chooses: a file, a folder of data files, or a pattern.

    `*` of a pattern goes across folders. Paths have forward slashes.
    """
    if rule in names:
        return [rule]
    rule = rule.removeprefix("./")
    folder = f"{rule.rstrip('/')}/" if rule.strip("./") else ""
    inside = [name for name in names if name.startswith(folder) and format_of(name)]
    return inside or [name for name in names if fnmatch.fnmatchcase(name, rule)]


def files_below(folder: Path, rules: str | list[str], where: str) -> list[Path]:
    """Return the files below a folder that rules choose (see `chosen`), in the order of names.

    Raises:
        PrunegridError: a rule chooses none.
    """
    found: set[Path] = set()
    for rule in [rules] if isinstance(rules, str) else rules:
        if (folder / rule).is_file():
            found.add(folder / rule)
            continue
        visible = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        names = [name for name in visible if not re.search(r"(^|/)\.", name)]
        files = [folder / name for name in chosen(names, rule)]
        if not files:
            raise PrunegridError(
                f"{folder / rule} does not exist",
                where=where,
                expected="a file, a folder of data files, or a pattern such as train-*.jsonl",
                remedy=nearest(rule, [name for name in names if format_of(name)][:400]),
            )
        found.update(files)
    return sorted(found)


def unpacked(path: Path, mode: str = "rt") -> IO:
    """Return a file opened as UTF-8 text or (mode "rb") as bytes, unpacked by its ending."""
    options = {} if mode == "rb" else {"encoding": "utf-8-sig", "newline": ""}
    return _OPENERS.get(path.suffix.lower(), open)(path, mode, **options)


def is_tabbed(name: str | PurePath) -> bool:
    """Return whether tabs separate the columns of a `csv` file of this name."""
    return ".tsv" in PurePath(str(name).lower()).suffixes
