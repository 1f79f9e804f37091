"""Small files: JSON and text, each whole or absent, and the digest of a file."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from prunegrid.common.errors import AttestationError


def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """Return JSON that is the same for equal values: keys sorted, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def json_sha256(value: Any) -> str:
    """Return the hex SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON to `path` by a temporary name and `os.replace`."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text to `path` by a temporary name and `os.replace`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Return the parsed JSON file.

    Raises:
        AttestationError: it is missing or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AttestationError("the file is missing", where=str(path)) from error
    except (ValueError, RecursionError) as error:  # no JSON, no text; nested without end
        raise AttestationError(
            f"not readable as JSON ({error})",
            where=str(path),
            remedy=f"delete the folder {Path(path).parent} and run again",
        ) from error
