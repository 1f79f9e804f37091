"""Reports of the steps of a study: their manifests, and the small files beside their weights.

A page shows what is there: a step that is gone or damaged, or whose report is not the recorded one,
is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunegrid.artifacts.artifact_folder import read_manifest
from prunegrid.common.errors import AttestationError
from prunegrid.common.file_io import file_sha256, read_json


def manifest_of(ref: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the manifest of a step, whose weights may be dropped; None if it is not whole."""
    try:
        return read_manifest(Path(ref["path"]), ref["key"], check_files=False)
    except (AttestationError, OSError):
        return None


def report_of(ref: Mapping[str, str], name: str) -> dict[str, Any] | None:
    """Return a JSON file of a step's folder; None if it is not the one that its manifest records.

    Args:
        name: of the file, such as "prune.json".
    """
    path = Path(ref["path"], name)
    listed = (manifest_of(ref) or {}).get("files", {})
    if name not in listed or not path.is_file() or file_sha256(path) != listed[name]["sha256"]:
        return None
    return read_json(path)
