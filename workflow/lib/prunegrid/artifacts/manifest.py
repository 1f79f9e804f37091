"""Manifests of artifacts, sealed: what a manifest records cannot change unnoticed either.

`artifacts.read_manifest` compares an artifact's files with the digests that its manifest holds.
What the manifest says beside that (counts, scores, times) is covered by its `seal`, the SHA-256 of
its canonical JSON. A seal tells damage; it is no signature.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from prunegrid.artifacts import artifact_folder
from prunegrid.artifacts.artifact_folder import MANIFEST
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError
from prunegrid.common.file_io import canonical_json

SEAL = "seal"
REPAIR = "run `prunegrid repair`, and the same command again"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def seal_of(manifest: Mapping[str, Any]) -> str:
    """Return the hex SHA-256 over all of a manifest but its seal."""
    body = {name: value for name, value in manifest.items() if name != SEAL}
    return hashlib.sha256(canonical_json(body).encode()).hexdigest()


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest with its seal, as it will be read back."""
    body = json.loads(json.dumps(manifest, allow_nan=False))
    return {**body, SEAL: seal_of(body)}


def read_sealed(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file, whose seal (where it has one) is that of its content.

    One without a seal was written by a version that had none, and is read as it is.

    Raises:
        AttestationError: it is missing, no JSON object, or not the one that was sealed.
    """
    return _checked(path, lambda: file_io.read_json(path))


def _checked(path: Path, read: Callable[[], Any]) -> dict[str, Any]:
    """Return what `read` gives, an object whose seal fits."""
    fault = ""
    try:
        body = read()
        if not isinstance(body, dict):
            fault = "not a manifest"
        elif SEAL in body and body[SEAL] != seal_of(body):
            fault = "the manifest was changed"
    except (ValueError, RecursionError, OSError) as error:  # NaN; nested without end; a folder
        fault = f"not a manifest ({type(error).__name__})"
    if fault:
        raise AttestationError(fault, where=str(path), remedy=REPAIR)
    return body


def read_manifest(folder: Path, key: str | None = None, *, check_files: bool = True) -> dict:
    """Return an artifact's manifest as `artifacts.read_manifest` does, its seal checked first.

    Raises:
        AttestationError: as there; or the manifest is not of the form that a job writes, or is not
            the one that was sealed.
    """
    dropped = artifact_folder.is_dropped(folder)
    path = Path(folder) / (artifact_folder.DROPPED if dropped else MANIFEST)
    if not _is_listing(_checked(path, lambda: artifact_folder.recorded(folder))):
        raise AttestationError("not a manifest", where=str(path), remedy=REPAIR)
    return artifact_folder.read_manifest(folder, key, check_files=check_files)


def _is_listing(manifest: Mapping[str, Any]) -> bool:
    """Return whether a manifest names its files, each with its size and digest."""
    files = manifest.get("files")
    return isinstance(files, dict) and all(
        isinstance(facts, dict)
        and type(facts.get("bytes")) is int
        and isinstance(facts.get("sha256"), str)
        and _SHA256.fullmatch(facts["sha256"])
        for facts in files.values()
    )


def content_of(manifest: str | Path) -> str | None:
    """Return what an artifact holds, as its manifest says; None where it is gone or broken."""
    try:
        content = file_io.read_json(Path(manifest)).get("content")
    except (AttestationError, AttributeError, OSError):
        return None
    return content if isinstance(content, str) else None


def contents(paths: Iterable[Path]) -> dict[str, str]:
    """Return {manifest: content} of those that can be read; what needs the others says why not."""
    found = {path.as_posix(): content_of(path) for path in paths}
    return {path: content for path, content in found.items() if content is not None}
