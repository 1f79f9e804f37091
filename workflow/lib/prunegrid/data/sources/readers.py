"""Rows of local data files: JSON lines, Parquet, CSV, plain text, MediaWiki dumps.

Python's own modules read JSON and CSV. pandas, pyarrow and `datasets` would fill short rows, read
dates and numbers out of texts, and name no line of a broken file.
"""

from __future__ import annotations

import csv
import json
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from prunegrid.common.data_formats import PACKED, UNREAD, format_of, is_tabbed, unpacked
from prunegrid.common.errors import PrunegridError, explained, nearest

Row = dict[str, Any]
QUOTED = "a field with marks or line breaks stands in quotes, quotes in it doubled"


def read(path: Path, form: str | None, where: str) -> list[Row]:
    """Return the rows of a file.

    Args:
        path: the file, which may be packed (`.gz`, `.bz2`, `.xz`).
        form: "jsonl", "parquet", "csv", "text" or "mediawiki"; None goes by the file's ending.

    Raises:
        PrunegridError: unknown format, or the file is not of it (with the line where it fails).
    """
    if path.suffix.lower() in UNREAD:
        raise PrunegridError(
            f"{path.name} is compressed by {path.suffix[1:]}",
            where=where,
            expected="a plain file, or one packed as " + ", ".join(PACKED),
            remedy="unpack it",
        )
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
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # a fault of the disk
        kind = {".gz": "gzip"}.get(path.suffix.lower(), path.suffix[1:])
        raise PrunegridError(
            f"not a whole {kind} file ({error})", where=str(path), remedy="copy it again"
        ) from error
    if not rows:
        raise PrunegridError("the file holds no rows", where=str(path))
    return rows


def _read_jsonl(path: Path) -> list[Row]:
    """Return the objects of a file of one JSON object a line, or of one JSON array of objects."""
    rows: list[Row] = []
    with unpacked(path) as handle:
        for number, line in enumerate(handle, start=1):
            text, place = line.lstrip("\ufeff"), f"{path}, line {number}"
            if not text.strip():
                continue
            if not rows and text.lstrip().startswith("["):
                rows = _parsed(text + handle.read(), str(path), "an array of objects")
                if not all(isinstance(row, dict) for row in rows):
                    raise PrunegridError("not an array of objects", where=str(path))
                return rows
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
        value = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:  # damaged; a huge number; nested without end
        why = str(error)
        if isinstance(error, json.JSONDecodeError):
            why = f"{error.msg} at column {error.colno}"
        raise PrunegridError(f"not JSON ({why})", where=where, expected=expected) from error
    if "\\ud" in text.lower():
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _object(pairs: list[tuple[str, Any]]) -> Row:
    """Return an object of JSON, of which no key stands twice."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"the key {_twice(key for key, _ in pairs)!r} stands twice in an object")
    return row


def _twice(names: Iterable[str]) -> str | None:
    """Return the first name that stands there twice, None if none does."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)


def _require_distinct(names: Sequence[str], where: str) -> None:
    """Check that no column's name stands twice: one of the two would be lost."""
    if (name := _twice(names)) is not None:
        raise PrunegridError(
            f"there are two columns {name!r}", where=where, remedy="rename or remove one of them"
        )


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    damaged = PrunegridError(
        "not a whole Parquet file", where=str(path), remedy="copy or download it again"
    )
    with explained(damaged, (pyarrow.ArrowException, OSError)), unpacked(path, "rb") as handle:
        table = pyarrow.parquet.ParquetFile(handle).read()
        _require_distinct(table.column_names, str(path))
        return table.to_pylist()


def require_distinct_columns(path: Path) -> None:
    """Check that the first line of a CSV file names no column twice."""
    with unpacked(path) as handle:
        names = next(csv.reader(handle, "excel-tab" if is_tabbed(path) else "excel"), [])
    _require_distinct(names, f"{path}, line 1")


def _read_csv(path: Path) -> list[Row]:
    """Return the rows of a CSV file (TSV by its ending) whose first line names the columns."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    rows, begin = [], 1  # the line that the record under way begins with
    with unpacked(path) as handle:
        dialect = "excel-tab" if is_tabbed(path) else "excel"
        reader = csv.DictReader(handle, dialect=dialect, strict=True)
        try:
            _require_distinct(reader.fieldnames or [], f"{path}, line 1")
            begin = reader.line_num + 1
            for row in reader:
                if None in row or None in row.values():
                    raise PrunegridError(
                        f"the row has {'more' if None in row else 'fewer'} fields than the header",
                        where=f"{path}, line {begin}",
                        expected=f"{len(reader.fieldnames or [])} fields",
                        remedy=QUOTED,
                    )
                rows.append(row)
                begin = reader.line_num + 1
        except csv.Error as error:
            raise PrunegridError(
                f"not CSV ({error})", where=f"{path}, line {begin}", remedy=QUOTED
            ) from error
    return rows


def _read_text(path: Path) -> list[Row]:
    """Return one row {text} a paragraph: the lines between blank lines."""
    with unpacked(path) as handle:
        paragraphs = re.split(r"\n[ \t]*\n\s*", re.sub(r"\r\n?", "\n", handle.read()))
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
