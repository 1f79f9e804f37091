"""Digests of a user's own files, remembered so that a large file is hashed once."""

from __future__ import annotations

import contextlib
from pathlib import Path

from prunegrid.artifacts.artifact_folder import SEAL, content_digest, read_sealed, sealed
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError

CACHE = Path("results/status/digests.json")


def path_digest(path: Path) -> str:
    """Return the content digest of a file, or of all files below a folder.

    A file is hashed again only if its size, time or inode has changed; a touch changes no digest.
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
        with contextlib.suppress(OSError):  # without a cache the next run hashes again
            file_io.write_json(CACHE, sealed({"files": fresh}))
    return content_digest(listing)


def _read_cache() -> dict[str, list]:
    """Return {file: [size, time, inode, digest]}; {} if the cache is missing, damaged or old."""
    try:
        body = read_sealed(CACHE)
    except AttestationError:
        return {}
    return body["files"] if SEAL in body else {}
