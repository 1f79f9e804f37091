"""Rows of local data files: JSON lines, Parquet, CSV, plain text, MediaWiki dumps.

Python's own modules read JSON and CSV. pandas, pyarrow and `datasets` would fill short rows, read
dates and numbers out of texts, and name no line of a broken file.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from prunegrid.common.data_formats import format_of, is_tabbed
from prunegrid.common.errors import PrunegridError, explained, nearest

Row = dict[str, Any]


def read(path: Path, form: str | None, where: str) -> list[Row]:
    """Return the rows of a file.

    Args:
        path: the file, which may be a `.gz`.
        form: "jsonl", "parquet", "csv", "text" or "mediawiki"; None goes by the file's ending.

    Raises:
        PrunegridError: unknown format, or the file is not of it (with the line where it fails).
    """
    form = form or format_of(path)
    if form is None:
        raise PrunegridError(
            f"the ending of {path.name} tells no format",
            where=where,
            expected="format: " + ", ".join(READERS),
        )
    if form not in READERS:
        raise PrunegridError(f"format is {form!r}", where=where, remedy=nearest(form, READERS))
    try:
        rows = READERS[form](path)
    except UnicodeDecodeError as error:
        raise PrunegridError(f"not UTF-8 text ({error})", where=str(path)) from error
    except UnicodeEncodeError as error:  # JSON can name halves of characters
        raise PrunegridError(f"a text is no Unicode ({error})", where=str(path)) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise PrunegridError(
            f"not a whole gzip file ({error})", where=str(path), remedy="copy it again"
        ) from error
    if not rows:
        raise PrunegridError("the file holds no rows", where=str(path))
    return rows


def _open(path: Path, mode: str = "rt") -> IO:
    """Return the file opened as UTF-8 text or as bytes, unpacked if it is a `.gz`."""
    options = {} if mode == "rb" else {"encoding": "utf-8-sig", "newline": ""}
    return (gzip.open if path.suffix.lower() == ".gz" else open)(path, mode, **options)


def _read_jsonl(path: Path) -> list[Row]:
    """Return the objects of a file of one JSON object a line, or of one JSON array of objects."""
    rows = []
    with _open(path) as handle:
        is_array = handle.read(1) == "["
        handle.seek(0)
        if is_array:
            rows = _parsed(handle.read(), str(path), "an array of objects")
            if not all(isinstance(row, dict) for row in rows):
                raise PrunegridError("not an array of objects", where=str(path))
            return rows
        for number, line in enumerate(handle, start=1):
            text, place = line.lstrip("\ufeff"), f"{path}, line {number}"
            if not text.strip():
                continue
            row = _parsed(text, place, "one JSON object a line")
            if not isinstance(row, dict):
                raise PrunegridError(
                    f"a {type(row).__name__}", where=place, expected="a JSON object"
                )
            rows.append(row)
    return rows


def _parsed(text: str, where: str, expected: str) -> Any:
    """Return the value of a JSON text; raise UnicodeEncodeError if a text in it is no Unicode."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # damaged; a huge number; nested without end
        why = str(error)
        if isinstance(error, json.JSONDecodeError):
            why = f"{error.msg} at column {error.colno}"
        raise PrunegridError(f"not JSON ({why})", where=where, expected=expected) from error
    if "\\ud" in text.lower():
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    damaged = PrunegridError(
        "not a whole Parquet file", where=str(path), remedy="copy or download it again"
    )
    with explained(damaged, (pyarrow.ArrowException, OSError)), _open(path, "rb") as handle:
        return pyarrow.parquet.ParquetFile(handle).read().to_pylist()


def _read_csv(path: Path) -> list[Row]:
    """Return the rows of a CSV file (TSV by its ending) whose first line names the columns."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    dialect = "excel-tab" if is_tabbed(path) else "excel"
    with _open(path) as handle:
        reader = csv.DictReader(handle, dialect=dialect, strict=True)
        rows = []
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise PrunegridError(
                        f"the row has {'more' if None in row else 'fewer'} fields than the header",
                        where=f"{path}, line {reader.line_num}",
                        expected=f"{len(reader.fieldnames or [])} fields",
                    )
                rows.append(row)
        except csv.Error as error:
            raise PrunegridError(
                f"not CSV ({error})", where=f"{path}, line {reader.line_num}"
            ) from error
    return rows


def _read_text(path: Path) -> list[Row]:
    """Return one row {text} a paragraph: the lines between blank lines."""
    with _open(path) as handle:
        paragraphs = re.split(r"\n[ \t]*\n\s*", handle.read().replace("\r\n", "\n"))
    return [{"text": text.strip()} for text in paragraphs if text.strip()]


def _read_mediawiki(path: Path) -> list[Row]:
    """Return one row {title, text} an article."""
    from prunegrid.data.sources import mediawiki

    return list(mediawiki.read(path))


READERS: dict[str, Callable[[Path], list[Row]]] = {
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
    "csv": _read_csv,
    "text": _read_text,
    "mediawiki": _read_mediawiki,
}
