"""Digests of a user's own files, remembered so that a large file is hashed once."""

from __future__ import annotations

import contextlib
from pathlib import Path

from prunegrid.artifacts import artifact_folder
from prunegrid.artifacts.manifest import SEAL, read_sealed, sealed
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError

CACHE = Path("results/status/digests.json")


def path_digest(path: Path) -> str:
    """Return the content digest of a file, or of all files below a folder.

    What a file's size, time and inode were at its last hashing is remembered; a touch costs one
    hashing and changes nothing.
    """
    known = _read_cache()
    fresh = dict(known)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    listing = {}
    for file in files:
        stat = file.stat()
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        entry = known.get(str(file))
        if entry is None or entry[:3] != mark:
            entry = [*mark, file_io.file_sha256(file)]
        fresh[str(file)] = entry
        name = file.relative_to(path).as_posix() if path.is_dir() else ""
        listing[name] = {"sha256": entry[3]}
    if fresh != known:
        with contextlib.suppress(OSError):  # a read-only store only loses the short cut
            file_io.write_json(CACHE, sealed({"files": fresh}))
    return artifact_folder.content_digest(listing)


def _read_cache() -> dict[str, list]:
    """Return what was noted of files; {} where that is missing, damaged, or of an older version."""
    try:
        body = read_sealed(CACHE)
    except AttestationError:
        return {}
    return body["files"] if SEAL in body else {}
