"""Formats in which a study's rows are given to others, one a file; the lookup of them.

The name of a format is its file's, with dashes. Each has `write(tables, out, options)`, which fills
the empty folder `out` and returns a line for each thing that a reader should know.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prunegrid.artifacts.artifact_folder import writing
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.tables.study_tables import StudyTables


@dataclass(frozen=True)
class Said:
    """What no table knows and its author says; None where nothing is said."""

    organization: str | None = None
    licence: str | None = None


Writer = Callable[[StudyTables, Path, Said], list[str]]


def names() -> list[str]:
    """Return the names of all formats."""
    return sorted(path.stem.replace("_", "-") for path in Path(__file__).parent.glob("[!_]*.py"))


def writer(name: str) -> Writer:
    """Return the function that writes a format.

    Raises:
        PrunegridError: there is no such format.
    """
    if name not in names():
        raise PrunegridError(f"there is no format '{name}'", remedy=nearest(name, names()))
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}").write


def export(tables: StudyTables, form: str, folder: Path, said: Said) -> list[str]:
    """Write a study in a format into a folder that does not exist; return lines for the reader.

    Raises:
        PrunegridError: the folder exists, there is no such format, or the study does not fit it.
    """
    write = writer(form)
    if folder.exists():
        remedy = "remove it, or name another folder with --out"
        raise PrunegridError("is there already", where=str(folder), remedy=remedy)
    with writing(folder) as out:
        return write(tables, out, said)
