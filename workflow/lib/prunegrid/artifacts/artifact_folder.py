"""Artifacts: folders that are whole or absent, each with a manifest that says what is inside.

An artifact is `results/artifacts/<stage>/<key>/`: its files, and `manifest.json` with the SHA-256
of each. It is written under another name beside its place and renamed as a whole, so a reader
never meets half of one. `content` is one digest over all files; a child records its parents'
content, so a chain of artifacts can be checked end to end.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.common.file_io import canonical_json, file_sha256, read_json

MANIFEST = "manifest.json"
# In the manifest's place where weights that no step needs any more were dropped
# (prunegrid.artifacts.dropped): {files that went, the manifest}.
DROPPED = "dropped.json"
MANIFEST_VERSION = 1


def list_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return {relative path: {bytes, sha256}} of every file below `folder` but the manifest."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in (MANIFEST, DROPPED):
            files[name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    return files


def content_digest(files: dict[str, dict[str, Any]]) -> str:
    """Return one SHA-256 over the names and digests of an artifact's files."""
    listing = {name: facts["sha256"] for name, facts in files.items()}
    return hashlib.sha256(canonical_json(listing).encode()).hexdigest()


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; on a clean exit it takes the place of `folder` as a whole.

    On any error the half-written folder is removed and nothing stays at `folder`'s place that was
    not there before.

    Raises:
        PrunegridError: the disk is full.
        AttestationError: the folder to fill was removed meanwhile: what is at its name by then
            holds only what was written since.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for stale in sorted(folder.parent.glob(f".{folder.name}.*.tmp")):
        discard(stale)
    # Jobs of two machines may have one pid.
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    aside.mkdir()
    opened = os.open(aside, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield aside
        open_to_umask(aside)
        if not _is_still(aside, opened):
            raise AttestationError(
                "the folder was removed while it was written",
                where=str(folder),
                remedy="run the same command again",
            )
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(aside, folder)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise PrunegridError(
                "no space left on the disk",
                where=str(folder.parent),
                remedy="free some space (or move results/ to a larger disk) and run again",
            ) from error
        raise
    finally:
        os.close(opened)
        shutil.rmtree(aside, ignore_errors=True)


def discard(folder: Path) -> None:
    """Remove a half-written folder, at once from its name: its writer may not be dead.

    Who still writes there then finds no folder, and never one that has lost some of its files.
    """
    with contextlib.suppress(OSError):
        folder = folder.rename(folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.tmp"))
    shutil.rmtree(folder, ignore_errors=True)


def _is_still(folder: Path, opened: int) -> bool:
    """Return whether the folder that was opened is the one that has the name."""
    try:
        return os.path.samestat(os.fstat(opened), folder.stat())
    except OSError:
        return False


def open_to_umask(place: Path) -> None:
    """Give files the permissions that the umask allows: some writers make them for one user.

    A file of another user, which was moved here, keeps its own.

    Args:
        place: a folder of them, or one.
    """
    mask = os.umask(0)
    os.umask(mask)
    wanted = 0o666 & ~mask
    for path in place.rglob("*") if place.is_dir() else [place]:
        plain = path.is_file() and not path.is_symlink()
        if plain and stat.S_IMODE(path.stat().st_mode) != wanted:
            with contextlib.suppress(PermissionError):
                path.chmod(wanted)


def require_space(folder: Path, needed: int) -> None:
    """Check that `needed` bytes fit on the disk that holds `folder`.

    Raises:
        PrunegridError: they do not.
    """
    folder = Path(folder)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PrunegridError(
            f"{free / 1e9:.2f} GB are free",
            where=str(folder),
            expected=f"at least {needed / 1e9:.2f} GB for the artifact to be written",
            remedy="free some space (or move results/ to a larger disk) and run again",
        )


def is_dropped(folder: Path) -> bool:
    """Whether an artifact's weights were dropped."""
    return (Path(folder) / DROPPED).exists() and not (Path(folder) / MANIFEST).exists()


def read_dropped(folder: Path) -> dict[str, Any]:
    """Return what stands in the place of the manifest of an artifact whose weights were dropped.

    Raises:
        AttestationError: it is missing, or not {files: names, manifest}.
    """
    told = read_json(Path(folder) / DROPPED)
    files = told.get("files") if isinstance(told, dict) else None
    names = isinstance(files, list) and all(isinstance(name, str) for name in files)
    if not names or "manifest" not in told:
        raise AttestationError(
            "not what a dropped artifact says of itself",
            where=str(Path(folder) / DROPPED),
            remedy=f"delete the folder {folder} and run again",
        )
    return told


def recorded(folder: Path) -> Any:
    """Return an artifact's manifest as it is written, of one whose weights were dropped too.

    Raises:
        AttestationError: it is missing or not JSON.
    """
    if is_dropped(folder):
        return read_dropped(folder)["manifest"]
    return read_json(Path(folder) / MANIFEST)


def read_manifest(folder: Path, key: str | None = None, *, check_files: bool = True) -> dict:
    """Return an artifact's manifest after checking it against its folder.

    Of one whose weights were dropped the files that are left are checked.

    Args:
        folder: the artifact.
        key: the key that the reader expects; None accepts any.
        check_files: re-hash every file (else only names and sizes are compared).

    Raises:
        AttestationError: manifest missing or broken, another key, a file missing, added or changed.
    """
    folder = Path(folder)
    remedy = f"delete the folder {folder} and run again"
    manifest = recorded(folder)
    if not isinstance(manifest, dict) or not {"key", "files", "content"} <= manifest.keys():
        raise AttestationError("not a manifest", where=str(folder / MANIFEST), remedy=remedy)
    if key is not None and manifest["key"] != key:
        raise AttestationError(
            f"the artifact has the key {manifest['key']}",
            where=str(folder / MANIFEST),
            expected=key,
            remedy=remedy,
        )
    found = (
        list_files(folder)
        if check_files
        else {
            p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size}
            for p in folder.rglob("*")
            if p.is_file() and p.name not in (MANIFEST, DROPPED)
        }
    )
    gone = set(read_dropped(folder)["files"]) if is_dropped(folder) else set()
    absent = (gone & manifest["files"].keys()) - found.keys()
    for name in sorted((manifest["files"].keys() | found.keys() | gone) - absent):
        told, actual = manifest["files"].get(name), found.get(name)
        if told is None or actual is None:
            fault = "was added to" if told is None else "is missing from"
            raise AttestationError(
                f"the file {name} {fault} the artifact", where=str(folder), remedy=remedy
            )
        if any(told[fact] != value for fact, value in actual.items()):
            raise AttestationError(
                f"the file {name} is not the one that the manifest records",
                where=str(folder),
                remedy=remedy,
            )
    if manifest["content"] != content_digest(manifest["files"]):
        raise AttestationError("the manifest was changed", where=str(folder), remedy=remedy)
    return manifest
