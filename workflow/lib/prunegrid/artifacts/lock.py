"""One maker at a time for an artifact, whatever jobs and runs are under way in the folder.

Snakemake's lock is of a run, and does not outlive what kills the run: its jobs go on without it,
and the next run would start the same ones again beside them. Here each job holds a lock on a file
of its artifact's key. The kernel frees it when the job dies, so it is never left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

log = logging.getLogger("prunegrid")

POLL_SECONDS = 0.2
# Held by every run (`prunegrid.running.snakemake_bridge.hold_folder`).
LIVE = Path(".snakemake/prunegrid.lock")


@contextlib.contextmanager
def only_maker(path: Path, label: str) -> Iterator[bool]:
    """Hold the lock of an artifact; yields whether another job held it meanwhile.

    Where the file system has no locks, the log says so and the job goes on without.

    Args:
        path: the lock file; it is gone when the lock is.
        label: of the step, for the log.
    """
    waited = False
    while (handle := _locked(path)) is None:
        if not waited:
            log.info("%s: another job makes it already; waiting for that", label)
        waited = True
        time.sleep(POLL_SECONDS)
    with handle:
        try:
            yield waited
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def if_no_maker(path: Path) -> Iterator[bool]:
    """Hold the lock of an artifact that no job makes; yields whether it could be had.

    Args:
        path: the lock file; it is gone when the lock is.
    """
    handle = _locked(path)
    if handle is None:
        yield False
        return
    with handle:
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path) -> IO | None:
    """Return the lock file, open and locked where there are locks; None while another holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = open(path, "a")  # noqa: SIM115 - held until the job ends
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            return None
        except OSError as error:
            log.warning("%s cannot be locked: %s", path, error)
            return handle
        if _is_at(path, handle):
            return handle
        handle.close()  # its last holder has removed it: another file has the name now


def _is_at(path: Path, handle: IO) -> bool:
    """Return whether the open file is the one that has the path's name."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False
