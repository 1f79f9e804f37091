"""Digests of a user's own files, remembered so that a large file is hashed once."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from prunegrid import artifacts

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
            entry = [*mark, artifacts.file_sha256(file)]
        fresh[str(file)] = entry
        name = file.relative_to(path).as_posix() if path.is_dir() else ""
        listing[name] = {"sha256": entry[3]}
    if fresh != known:
        with contextlib.suppress(OSError):  # a read-only store only loses the short cut
            artifacts.write_text(CACHE, json.dumps(fresh))
    return artifacts.content_digest(listing)


def _read_cache() -> dict[str, list]:
    try:
        return json.loads(CACHE.read_text())
    except (OSError, json.JSONDecodeError):
        return {}
