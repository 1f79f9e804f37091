"""Locks of a results folder: one maker at a time for an artifact, and no repair under a live run.

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
    """Hold the lock of an artifact; yields whether another job held it meanwhile.

    Where the file system has no locks, the log says so and the job goes on without.

    Args:
        path: the lock file; it is gone when the lock is.
        label: of the step, for the log.
    """
    with contextlib.ExitStack() as stack:
        free = _lock(path, stack, blocking=False)
        if not free:
            log.info("%s: another job makes it already; waiting for that", label)
            _lock(path, stack, blocking=True)
        yield not free


@contextlib.contextmanager
def if_no_maker(path: Path) -> Iterator[bool]:
    """Hold the lock of an artifact that no job makes; yields whether it could be had.

    Args:
        path: the lock file; it is gone when the lock is.
    """
    with contextlib.ExitStack() as stack:
        yield _lock(path, stack, blocking=False)


def _lock(path: Path, stack: contextlib.ExitStack, blocking: bool) -> bool:
    """Lock a file until the stack is left; return whether it could be had.

    A file that its last holder removed is not taken for the one that has its name now: `filelock`
    looks again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()  # fails where the folder cannot be written, so that what fails below is the lock
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
    """Hold a shared lock until the process ends, on a file in which its start is noted.

    So there is a file that is newer than what earlier runs have made, and another one than they
    saw: Snakemake compares small files by their content too.
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


@contextlib.contextmanager
def no_live_run() -> Iterator[None]:
    """Give a context in which no run is under way in this folder.

    Raises:
        PrunegridError: one is.
    """
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
