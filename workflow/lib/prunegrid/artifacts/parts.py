"""Parts of an artifact: a folder each, where one job makes what several rows are read from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def part_folder(place: int, name: str) -> str:
    """Return the name of a part's folder.

    Args:
        place: of the part among those of its artifact.
        name: of what it holds: a benchmark's task, a control's method.
    """
    return f"{place}-{name}"


def held_in(folder: str) -> str:
    """Return the name of what a part's folder holds: the reverse of `part_folder`."""
    return folder.partition("-")[2]


def folder_of(ref: Mapping[str, str]) -> Path:
    """Return the folder that a table's plan refers to: an artifact, or a part of one."""
    return Path(ref["path"], ref.get("folder", ""))


def record_of(ref: Mapping[str, str], manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the record of an artifact, or of a part of one, out of the artifact's manifest."""
    record = manifest["record"]
    return record["parts"][ref["folder"]] if ref.get("folder") else record
