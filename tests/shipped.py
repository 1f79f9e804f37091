"""The config that ships with the project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prunegrid.config.config_files import project_files, read_files

FILES = project_files(Path(__file__).resolve().parents[1])


def config() -> dict[str, Any]:
    """Return all of it, merged; each time a new tree."""
    return read_files(FILES)
