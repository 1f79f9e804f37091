"""Digests of a user's own files, remembered so that a large file is hashed once."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prunegrid.artifacts.artifact_folder import SEAL, content_digest, read_sealed, sealed
from prunegrid.common import file_io, local_files
from prunegrid.common.errors import AttestationError

CACHE = Path("results/status/digests.json")
# A line of progress for so many bytes, some seconds of hashing.
TOLD_EVERY = 4 * 10**9

log = logging.getLogger("prunegrid")


def source_digest(source: Mapping[str, Any], is_model: bool) -> str:
    """Return the content digest of the files that a step reads of a local source.

    A single file's name does not count, and no file does that lies beside those that are read.

    Args:
        source: its path, and of data its files (`prunegrid.common.local_files`).

    Raises:
        PrunegridError: one of them is missing.
    """
    path = Path(source["path"])
    if is_model:
        files = local_files.of_model(path, str(path))
    else:
        files = sum(local_files.of_data(source, str(path)).values(), [])
    base = path if path.is_dir() else path.parent
    names = ("" if file == path else file.relative_to(base).as_posix() for file in files)
    return files_digest(zip(names, files, strict=True))


def files_digest(files: Iterable[tuple[str, Path]]) -> str:
    """Return the content digest of (name, file) pairs.

    A file is hashed again only if its size, time or inode has changed; a touch changes no digest.
    """
    known = _read_cache()
    fresh = dict(known)
    listing = {}
    for name, file in files:
        stat = file.stat()
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        entry = known.get(str(file))
        if entry is None or entry[:3] != mark:
            entry = [*mark, _sha256(file, stat.st_size)]
        fresh[str(file)] = entry
        listing[name] = {"sha256": entry[3]}
    if fresh != known:
        with contextlib.suppress(OSError):  # without a cache the next run hashes again
            file_io.write_json(CACHE, sealed({"files": fresh}))
    return content_digest(listing)


def _sha256(path: Path, size: int) -> str:
    """Return the hex SHA-256 of a file; say how far that is if it takes long."""
    if size < TOLD_EVERY:
        return file_io.file_sha256(path)
    digest, done = hashlib.sha256(), 0
    with open(path, "rb") as handle:
        while block := handle.read(TOLD_EVERY // 256):
            if done % TOLD_EVERY < len(block):
                told = f"hashing {path} (once): {done / 1e9:.0f} of {size / 1e9:.0f} GB"
                log.warning(told)  # no lower level is shown while Snakemake plans
            digest.update(block)
            done += len(block)
    return digest.hexdigest()


def _read_cache() -> dict[str, list]:
    """Return {file: [size, time, inode, digest]}; {} if the cache is missing, damaged or old."""
    try:
        body = read_sealed(CACHE)
    except AttestationError:
        return {}
    return body["files"] if SEAL in body else {}
