"""Dropping weights that no later step needs, and making them again as they were.

Under `keep_weights: until_used` the job that ends last of those that read some weights drops them:
the weight files of a pruned or tuned model go, its small files stay, and `dropped.json` takes the
place of the manifest, which it holds. For Snakemake the artifact is missing, and a missing one is
made only where a step that is to run reads it: nothing reruns by dropping, and a step that is added
later has its weights made again first. What is made must then be, byte for byte, what was dropped,
and gets the manifest that it had.

Snakemake's own `temp()` does not do it: it removes the manifest with the weights, so the table's
job would have nothing to attest a row by, and a step that is added later would make other bytes
unseen.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prunegrid.artifacts import artifact_folder
from prunegrid.artifacts.manifest import read_manifest
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError

log = logging.getLogger(__name__)
PATTERN = "*.safetensors"


def retire(entries: Iterable[Mapping[str, Any]]) -> None:
    """Drop the weights that all their readers have read; what cannot be dropped stays."""
    for entry in entries:
        if all(map(is_there, entry["needed_by"])):
            try:
                drop(Path(entry["path"]))
            except (OSError, AttestationError) as error:
                log.warning("%s could not be dropped: %s", entry["path"], error)


def is_there(manifest: str | Path) -> bool:
    """Whether the artifact of a manifest was made: it is whole, or its weights were dropped."""
    return Path(manifest).exists() or artifact_folder.is_dropped(Path(manifest).parent)


def drop(folder: Path) -> int:
    """Drop the weight files of an artifact; return their bytes, 0 where there were none.

    Two readers that end at once may both do it: each goes by the manifest, never by what the other
    has left.

    Raises:
        AttestationError: the manifest is damaged, or files are missing or added.
    """
    if artifact_folder.is_dropped(folder) or not (folder / artifact_folder.MANIFEST).exists():
        return 0
    manifest = read_manifest(folder, check_files=False)
    sizes = {
        name: facts["bytes"]
        for name, facts in sorted(manifest["files"].items())
        if Path(name).match(PATTERN)
    }
    if not sizes:
        return 0
    # In this order a drop that is killed half-way leaves a whole artifact or a dropped one.
    told = {"files": list(sizes), "manifest": manifest}
    file_io.write_json(folder / artifact_folder.DROPPED, told)
    (folder / artifact_folder.MANIFEST).unlink(missing_ok=True)
    for name in sizes:
        (folder / name).unlink(missing_ok=True)
    size = sum(sizes.values())
    log.info("dropped %.2f GB of weights that no step needs: %s", size / 1e9, folder)
    return size


def dropped(folder: Path) -> dict[str, Any] | None:
    """Return what a dropped artifact was: {files, manifest}; None for any other.

    Raises:
        AttestationError: it is damaged.
    """
    if not artifact_folder.is_dropped(folder):
        return None
    read_manifest(folder)
    return artifact_folder.read_dropped(folder)


def require_whole(folder: Path) -> None:
    """Check that an artifact's weights are there.

    Raises:
        AttestationError: they were dropped.
    """
    if artifact_folder.is_dropped(folder):
        raise AttestationError(
            "its weights were dropped (keep_weights: until_used)",
            where=str(folder),
            remedy="run the table again: they are made again before a step that needs them",
        )


def restore(folder: Path, out: Path, before: Mapping[str, Any], where: str) -> None:
    """Make what was made again into what was dropped: small files and manifest are the old ones.

    Args:
        folder: the dropped artifact.
        out: the new one, not yet in its place.
        before: what `dropped` said.
        where: a label for errors.

    Raises:
        AttestationError: the weights are not the ones that were dropped.
    """
    recorded = before["manifest"]["files"]
    for name in before["files"]:
        path = out / name
        if not path.is_file() or file_io.file_sha256(path) != recorded[name]["sha256"]:
            raise AttestationError(
                f"made again, {name} is not what was dropped",
                where=where,
                expected="the same bytes, as on one machine and a CPU",
                remedy=f"run where it was first made, or delete {folder} and what was made of it",
            )
    for name in recorded.keys() - set(before["files"]):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / name, out / name)
    for path in [path for path in out.rglob("*") if path.is_file()]:
        if path.relative_to(out).as_posix() not in recorded:
            path.unlink()
    file_io.write_json(out / artifact_folder.MANIFEST, before["manifest"])
