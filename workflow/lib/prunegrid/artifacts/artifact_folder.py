"""Artifacts: folders that are whole or absent, each with a manifest that describes its files.

An artifact is `results/artifacts/<stage>/<key>/`: its files, and `manifest.json` with the SHA-256
of each. It is written under another name beside its place and renamed as a whole, so a reader
never meets half of one. `content` is one digest over all files; a child records its parents'
content, so a chain of artifacts can be checked end to end. The rest of a manifest (counts, scores,
times) is covered by its `seal`, the SHA-256 of its canonical JSON. A seal shows damage; it is no
signature.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.common.file_io import canonical_json, file_sha256, read_json

MANIFEST = "manifest.json"
# It takes the manifest's place once weights that no step needs any more are dropped
# (prunegrid.artifacts.dropped): {names of the dropped files, the manifest}.
DROPPED = "dropped.json"
MANIFEST_VERSION = 1
SEAL = "seal"
REPAIR = "run `prunegrid repair`, and the same command again"
_AGAIN = "free some space (or move results/ to a larger disk) and run again"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def list_files(folder: Path, *, digests: bool = True) -> dict[str, dict[str, Any]]:
    """Return {relative path: {bytes, sha256}} of every file below `folder` but the manifest.

    Without `digests` no file is read and `sha256` is left out.
    """
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in (MANIFEST, DROPPED):
            files[name] = {"bytes": path.stat().st_size}
            if digests:
                files[name]["sha256"] = file_sha256(path)
    return files


def content_digest(files: dict[str, dict[str, Any]]) -> str:
    """Return one SHA-256 over the names and digests of an artifact's files."""
    listing = {name: facts["sha256"] for name, facts in files.items()}
    return hashlib.sha256(canonical_json(listing).encode()).hexdigest()


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; on a clean exit it takes the place of `folder` as a whole.

    On any error the half-written folder is removed and `folder` stays as it was.

    Raises:
        PrunegridError: the disk is full.
        AttestationError: the folder to fill was removed meanwhile, so a folder of its name lacks
            the files that were written before.
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
                remedy=_AGAIN,
            ) from error
        raise
    finally:
        os.close(opened)
        shutil.rmtree(aside, ignore_errors=True)


def discard(folder: Path) -> None:
    """Remove a half-written folder, first its name.

    A writer that is still alive then finds no folder, and never one that lacks some files.
    """
    with contextlib.suppress(OSError):
        folder = folder.rename(folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.tmp"))
    shutil.rmtree(folder, ignore_errors=True)


def _is_still(folder: Path, opened: int) -> bool:
    """Return whether a folder's name still leads to the one that was opened."""
    try:
        return os.path.samestat(os.fstat(opened), folder.stat())
    except OSError:
        return False


def open_to_umask(place: Path) -> None:
    """Give a file, or all files of a folder, the permissions that the umask allows.

    Some writers make files for one user. A file of another user, which was moved here, keeps its
    permissions.
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
    """Raise PrunegridError unless `needed` bytes fit on the disk that holds `folder`."""
    folder = Path(folder)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PrunegridError(
            f"{free / 1e9:.2f} GB are free",
            where=str(folder),
            expected=f"at least {needed / 1e9:.2f} GB for the artifact to be written",
            remedy=_AGAIN,
        )


def is_dropped(folder: Path) -> bool:
    """Return whether an artifact's weights were dropped."""
    return (Path(folder) / DROPPED).exists() and not (Path(folder) / MANIFEST).exists()


def read_dropped(folder: Path) -> dict[str, Any]:
    """Return {files, manifest} of an artifact whose weights were dropped.

    Raises:
        AttestationError: `dropped.json` is missing, or of another form.
    """
    path = Path(folder) / DROPPED
    body = read_json(path)
    files = body.get("files") if isinstance(body, dict) else None
    names = isinstance(files, list) and all(isinstance(name, str) for name in files)
    if not names or "manifest" not in body:
        raise _damaged("not the record of a dropped artifact", path)
    return body


def recorded(folder: Path) -> Any:
    """Return an artifact's manifest as it is written, even if its weights were dropped.

    Raises:
        AttestationError: it is missing or not JSON.
    """
    if is_dropped(folder):
        return read_dropped(folder)["manifest"]
    return read_json(Path(folder) / MANIFEST)


def read_manifest(folder: Path, key: str | None = None, *, check_files: bool = True) -> dict:
    """Return an artifact's manifest after checking its seal, its key and its folder.

    Of an artifact whose weights were dropped the files that are left are checked.

    Args:
        key: the key that the reader expects; None accepts any.
        check_files: re-hash every file (else only names and sizes are compared).

    Raises:
        AttestationError: manifest missing or broken, another key, a file missing, added or changed.
    """
    folder = Path(folder)
    remedy = f"delete the folder {folder} and run again"
    path = folder / (DROPPED if is_dropped(folder) else MANIFEST)
    manifest = _checked(path, lambda: recorded(folder))
    if not {"key", "content"} <= manifest.keys() or not _lists_files(manifest):
        raise _damaged("not a manifest", path, remedy)
    if key is not None and manifest["key"] != key:
        raise AttestationError(
            f"the artifact has the key {manifest['key']}",
            where=str(path),
            expected=key,
            remedy=remedy,
        )
    files = list_files(folder, digests=check_files)
    gone = set(read_dropped(folder)["files"]) if is_dropped(folder) else set()
    absent = (gone & manifest["files"].keys()) - files.keys()
    for name in sorted((manifest["files"].keys() | files.keys() | gone) - absent):
        expected, actual = manifest["files"].get(name), files.get(name)
        if expected is None:
            raise _damaged(f"the file {name} was added to the artifact", folder, remedy)
        if actual is None:
            raise _damaged(f"the file {name} is missing from the artifact", folder, remedy)
        if any(expected[fact] != value for fact, value in actual.items()):
            raise _damaged(
                f"the file {name} is not the one that the manifest records", folder, remedy
            )
    if manifest["content"] != content_digest(manifest["files"]):
        raise _damaged("the manifest was changed", path, remedy)
    return manifest


def _lists_files(manifest: Mapping[str, Any]) -> bool:
    """Return whether a manifest names its files, each with its size and digest."""
    files = manifest.get("files")
    return isinstance(files, dict) and all(
        isinstance(facts, dict)
        and type(facts.get("bytes")) is int
        and isinstance(facts.get("sha256"), str)
        and _SHA256.fullmatch(facts["sha256"])
        for facts in files.values()
    )


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest with its seal, as it will be read back."""
    body = json.loads(json.dumps(manifest, allow_nan=False))
    return {**body, SEAL: _seal_of(body)}


def _seal_of(manifest: Mapping[str, Any]) -> str:
    body = {name: value for name, value in manifest.items() if name != SEAL}
    return hashlib.sha256(canonical_json(body).encode()).hexdigest()


def read_sealed(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file after checking its seal.

    A file without a seal was written by a version that had none, and is read as it is.

    Raises:
        AttestationError: it is missing, no JSON object, or not the one that was sealed.
    """
    return _checked(path, lambda: read_json(path))


def _checked(path: Path, read: Callable[[], Any]) -> dict[str, Any]:
    """Return what `read` returns, an object whose seal fits."""
    try:
        body = read()
        if isinstance(body, dict) and (SEAL not in body or body[SEAL] == _seal_of(body)):
            return body
    except (ValueError, RecursionError, OSError) as error:  # NaN; nested without end; a folder
        raise _damaged(f"not a manifest ({type(error).__name__})", path) from error
    raise _damaged("the manifest was changed" if isinstance(body, dict) else "not a manifest", path)


def _damaged(what: str, place: Path, remedy: str = REPAIR) -> AttestationError:
    return AttestationError(what, where=str(place), remedy=remedy)


def contents(manifests: Iterable[str | Path]) -> dict[str, str]:
    """Return {path: content} of those manifests that can be read; the readers of others fail."""
    found = {}
    for path in manifests:
        with contextlib.suppress(AttestationError, AttributeError, OSError):
            content = read_json(Path(path)).get("content")
            if isinstance(content, str):
                found[Path(path).as_posix()] = content
    return found
