"""What a local source holds, as far as its first row and its sizes tell: columns, bytes, positions.

Checks and estimates before a run read these. No large file is read whole.
"""

from __future__ import annotations

import csv
import io
import json
import lzma
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunegrid.common import local_files
from prunegrid.common.data_formats import PACKED, format_of, is_tabbed, unpacked
from prunegrid.common.errors import PrunegridError
from prunegrid.common.source_code import literals
from prunegrid.config.sources import known_config, parse_source
from prunegrid.config.validated import Config

# The first bytes in which the first row of a JSON file is looked for.
HEAD = 1 << 24
# Bytes of a file that is too long to be too short.
SHORT = 1 << 24
# What a damaged file raises; that is told by the step that reads it.
UNREADABLE = (OSError, ValueError, EOFError, RecursionError, csv.Error, zlib.error, lzma.LZMAError)


def files(config: Config, dataset: Any) -> dict[str, list[Path]]:
    """Return {split of the source: its files} of a data set; {} where the source is not local."""
    try:
        source = parse_source(dataset.source or "", config.base)
        if source["kind"] != "local":
            return {}
        return local_files.of_data({"path": source["path"], "files": dataset.files}, "")
    except (ValueError, PrunegridError):  # the source has a fault of its own
        return {}


def columns(path: Path, form: str | None = None) -> list[str]:
    """Return the columns of a file's first row, nested ones with dots; [] where that is not known.

    Args:
        form: the format; None goes by the file's ending.
    """
    form = form or format_of(path)
    try:
        if form == "jsonl":
            return _paths(_first_object(path))
        if form == "csv":
            with unpacked(path) as handle:
                return next(csv.reader(handle, "excel-tab" if is_tabbed(path) else "excel"), [])
        if form == "parquet":
            import pyarrow.parquet

            return list(pyarrow.parquet.read_schema(path).names)
    except UNREADABLE:
        return []
    return {"text": ["text"], "mediawiki": ["title", "text"]}.get(form or "", [])


def _first_object(path: Path) -> Any:
    """Return the first object of a file of JSON lines, or of an array of objects."""
    with unpacked(path) as handle:
        text = handle.read(HEAD).lstrip()
    if text.startswith("["):
        text = text[1:].lstrip()
    return json.JSONDecoder().raw_decode(text)[0]


def _paths(row: Any, prefix: str = "") -> list[str]:
    if not isinstance(row, Mapping):
        return []
    names = [f"{prefix}{key}" for key in row]
    return names + [path for key, value in row.items() for path in _paths(value, f"{prefix}{key}.")]


def most_rows(paths: list[Path]) -> int | None:
    """Return a number of rows that files do not exceed: their lines; None where that is not known.

    Not known are packed files, Parquet, arrays of JSON, and files that are surely long enough.
    """
    if sum(path.stat().st_size for path in paths) > SHORT:
        return None
    bodies = [path.read_bytes() for path in paths]
    forms = {format_of(path, packed=()) for path in paths}
    if not forms <= {"jsonl", "csv", "text"} or any(b.lstrip()[:1] == b"[" for b in bodies):
        return None
    return sum(len(body.splitlines()) for body in bodies)


def most_tokens(paths: list[Path]) -> int | None:
    """Return a number of tokens that files do not exceed; None as of `most_rows`.

    A token that stands for text has a byte at least; a row adds its separator and special tokens.
    """
    rows = most_rows(paths)
    return None if rows is None else sum(path.stat().st_size for path in paths) + 4 * rows


def likely_rows(paths: list[Path], form: str | None = None) -> int | None:
    """Return about how many rows files hold; None where that cannot be told without reading them.

    Those of Parquet are as its footer says. Of long files the first bytes are counted, and their
    rows are taken to be as long as all others. Not told are long packed files and long arrays of
    JSON, and dumps.

    Args:
        form: their format; None goes by each file's ending.
    """
    try:
        counts = [_likely(path, form or format_of(path)) for path in paths]
    except UNREADABLE:
        return None
    return None if None in counts or not counts else sum(counts)


def _likely(path: Path, form: str | None) -> int | None:
    if form == "parquet":
        import pyarrow.parquet

        with unpacked(path, "rb") as handle:
            return pyarrow.parquet.ParquetFile(handle).metadata.num_rows
    if form not in ("jsonl", "csv", "text"):
        return None
    with unpacked(path) as handle:
        head = handle.read(SHORT)
        whole = not handle.read(1)
    if head.lstrip().startswith("["):
        return len(json.loads(head)) if whole else None
    lines = csv.reader(io.StringIO(head)) if form == "csv" else map(str.strip, head.split("\n"))
    rows = sum(map(bool, lines)) - (form == "csv")
    if whole:
        return max(rows, 0)
    packed = path.suffix.lower() in PACKED
    return None if packed else round(rows * path.stat().st_size / len(head.encode()))


def positions(model: Any, base: Path) -> int | None:
    """Return how many tokens a model has positions for, by its config; None where not known."""
    try:
        known = known_config(model, base)
    except ValueError:  # the source has a fault of its own
        return None
    inner = known.get("text_config")
    configs = [known, inner] if isinstance(inner, Mapping) else [known]
    names = (*literals("prunegrid.models.forward")["POSITIONS"], "n_positions")
    found = [config.get(name) for config in configs for name in names]
    return min((n for n in found if type(n) is int and n > 0), default=None)
