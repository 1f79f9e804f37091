"""Weights that no later step needs: they are dropped, and made again if a new step reads them.

Under `keep_weights: until_used` the last job that reads some weights drops them: the weight files
of a pruned or tuned model go, its small files stay, and `dropped.json` takes the place of the
manifest, which it holds. For Snakemake the artifact is missing, and a missing artifact is made only
if a step that will run reads it, so dropping reruns nothing. Weights that are made again must equal
the dropped ones byte for byte, and get their old manifest.

Snakemake's `temp()` would remove the manifest too: the table's job could not attest its rows, and
other bytes could be made unseen.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError

log = logging.getLogger(__name__)
PATTERN = "*.safetensors"


def retire(entries: Iterable[Mapping[str, Any]]) -> None:
    """Drop the weights that all their readers have read; keep any that cannot be dropped.

    Args:
        entries: {path, needed_by: the manifests of the readers} of each weights artifact.
    """
    for entry in entries:
        if all(map(is_there, entry["needed_by"])):
            try:
                drop(Path(entry["path"]))
            except (OSError, AttestationError) as error:
                log.warning("%s could not be dropped: %s", entry["path"], error)


def is_there(manifest: str | Path) -> bool:
    """Return whether a manifest's artifact was made: it is whole, or its weights were dropped."""
    return Path(manifest).exists() or artifact_folder.is_dropped(Path(manifest).parent)


def drop(folder: Path) -> int:
    """Drop the weight files of an artifact; return their bytes, 0 without any.

    Two readers that end at once may both do it: each goes by the manifest, not by the files that
    the other has left.

    Raises:
        AttestationError: the manifest is damaged, or files are missing or added.
    """
    if artifact_folder.is_dropped(folder) or not (folder / artifact_folder.MANIFEST).exists():
        return 0
    manifest = artifact_folder.read_manifest(folder, check_files=False)
    sizes = {
        name: facts["bytes"]
        for name, facts in sorted(manifest["files"].items())
        if Path(name).match(PATTERN)
    }
    if not sizes:
        return 0
    # In this order a drop that is killed half-way leaves a whole artifact or a dropped one.
    record = {"files": list(sizes), "manifest": manifest}
    file_io.write_json(folder / artifact_folder.DROPPED, record)
    (folder / artifact_folder.MANIFEST).unlink(missing_ok=True)
    for name in sizes:
        (folder / name).unlink(missing_ok=True)
    size = sum(sizes.values())
    log.info("dropped %.2f GB of weights that no step needs: %s", size / 1e9, folder)
    return size


def dropped(folder: Path) -> dict[str, Any] | None:
    """Return {names of the dropped files, manifest} of an artifact; None if it is not dropped.

    Raises:
        AttestationError: it is damaged.
    """
    if not artifact_folder.is_dropped(folder):
        return None
    artifact_folder.read_manifest(folder)
    return artifact_folder.read_dropped(folder)


def require_whole(folder: Path) -> None:
    """Raise AttestationError if an artifact's weights were dropped."""
    if artifact_folder.is_dropped(folder):
        raise AttestationError(
            "its weights were dropped (keep_weights: until_used)",
            where=str(folder),
            remedy="run the table again: they are made again before a step that needs them",
        )


def restore(folder: Path, out: Path, before: Mapping[str, Any], where: str) -> None:
    """Give weights that were made again the small files and the manifest of the dropped artifact.

    Args:
        folder: the dropped artifact.
        out: the new one, not yet in its place.
        before: the result of `dropped`.
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
