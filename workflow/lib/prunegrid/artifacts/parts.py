"""Parts of an artifact: a folder each, if one job makes the results of several rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def part_folder(place: int, name: str) -> str:
    """Return the folder of a part: its place in the artifact, and a task's or a method's name."""
    return f"{place}-{name}"


def held_in(folder: str) -> str:
    """Return the name of the task or method in a part's folder."""
    return folder.partition("-")[2]


def folder_of(ref: Mapping[str, str]) -> Path:
    """Return the folder that a table's plan refers to: an artifact, or a part of one."""
    return Path(ref["path"], ref.get("folder", ""))


def record_of(ref: Mapping[str, str], manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the record of an artifact, or of a part of one, out of the artifact's manifest."""
    record = manifest["record"]
    return record["parts"][ref["folder"]] if ref.get("folder") else record
