"""Locks of a results folder: one maker at a time for an artifact, and no repair under a live run.

Snakemake's lock ends with its run, while jobs of a killed run go on; the next run would start the
same ones beside them. Here each job holds a lock on a file of its artifact's key, which the kernel
frees when the job dies.
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

from filelock import FileLock, Timeout

from prunegrid.common.errors import PrunegridError

log = logging.getLogger("prunegrid")

POLL_SECONDS = 0.2
# Every run holds a shared lock on it.
LIVE = Path(".snakemake/prunegrid.lock")

# The file of this process's own run, locked until the process ends.
HELD: list[IO] = []


@contextlib.contextmanager
def only_maker(path: Path, label: str) -> Iterator[bool]:
    """Hold the lock of an artifact; yield whether another job held it before.

    On a file system without locks the log says so and the job goes on without.

    Args:
        path: the lock file; it is removed with the lock.
        label: the step's label in the log.
    """
    with contextlib.ExitStack() as stack:
        free = _lock(path, stack, blocking=False)
        if not free:
            log.info("%s: another job makes it already; waiting for that", label)
            _lock(path, stack, blocking=True)
        yield not free


@contextlib.contextmanager
def if_no_maker(path: Path) -> Iterator[bool]:
    """Hold the lock of an artifact unless a job makes it; yield whether the lock is held."""
    with contextlib.ExitStack() as stack:
        yield _lock(path, stack, blocking=False)


def _lock(path: Path, stack: contextlib.ExitStack, blocking: bool) -> bool:
    """Lock a file until the stack is left; return whether that succeeded.

    `filelock` looks again if the last holder has removed the file that it opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()  # a folder that cannot be written fails here, so an error below is the lock's
    lock = FileLock(path, fallback_to_soft=False, poll_interval=POLL_SECONDS)
    try:
        stack.enter_context(lock.acquire(blocking=blocking))
    except Timeout:
        return False
    except OSError as error:
        log.warning("%s cannot be locked: %s", path, error)
    stack.callback(path.unlink, missing_ok=True)
    return True


def hold_live() -> None:
    """Hold a shared lock until the process ends, on a file that records its start.

    The file is newer than everything that earlier runs have made, and its content differs from
    theirs: Snakemake compares small files by their content too.
    """
    if HELD:
        return
    try:
        LIVE.parent.mkdir(exist_ok=True)
        handle = open(LIVE, "w", encoding="utf-8")  # noqa: SIM115 - held until the process ends
        print(os.getpid(), time.time_ns(), file=handle, flush=True)
        # Runs go on side by side, and filelock's shared locks are databases of SQLite.
        fcntl.flock(handle, fcntl.LOCK_SH)
    except OSError:
        return  # a folder that cannot be written, or a file system without locks
    HELD.append(handle)


def is_live() -> bool:
    """Return whether a run is under way in this folder; it needs no right to write."""
    try:
        with open(LIVE, encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no run yet, or a file system without locks
        pass
    return False


def wait_for_live() -> None:
    """Wait until no run is under way in this folder."""
    with contextlib.suppress(OSError), open(LIVE, encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)


@contextlib.contextmanager
def no_live_run() -> Iterator[None]:
    """Keep runs out of this folder; raise PrunegridError if one is under way."""
    with contextlib.ExitStack() as stack:
        if LIVE.exists():
            lock = FileLock(LIVE, fallback_to_soft=False)
            try:
                stack.enter_context(lock.acquire(blocking=False))
            except Timeout as error:
                raise PrunegridError(
                    "a run is under way in this folder", remedy="wait for its end, or stop it"
                ) from error
        yield
