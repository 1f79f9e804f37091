"""Files of finished tables: whole, or not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def place(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file under a temporary name, and `os.replace` it to `path`."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
