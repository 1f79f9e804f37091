"""Accelerators for a job: device tokens from a pool that all jobs of a machine share."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from prunegrid.common.errors import PrunegridError

log = logging.getLogger(__name__)
POLL_SECONDS = 0.2
# Not below TMPDIR, which each user may have of their own; PRUNEGRID_DEVICES names another one.
POOL = "/tmp/prunegrid-devices"


@contextlib.contextmanager
def claim_devices(kind: str, count: int = 1) -> Iterator[list[str]]:
    """Yield devices for the time of a job: ["cpu"], or `count` "cuda:<i>" that no other job holds.

    Tokens go by the devices' UUIDs, which stay the same however a scheduler or
    CUDA_VISIBLE_DEVICES numbers them.

    Args:
        kind: "cpu" or "cuda".
        count: devices that the job needs together.

    Raises:
        PrunegridError: "cuda" where there are none, or fewer than that.
    """
    if kind == "cpu":
        yield ["cpu"]
        return
    visible = visible_gpus()
    if len(visible) < count:
        found = f"sees {len(visible)} of the {count}" if visible else "sees no"
        raise PrunegridError(
            f"is cuda, but torch {found} CUDA device{'s' if count > 1 else ''} here",
            where="config.yaml: device",
            expected="an NVIDIA GPU (one a process) and a CUDA build of torch",
            remedy="set device: cpu, use fewer finetune.processes, or run where there are enough",
        )
    pool = Path(os.environ.get("PRUNEGRID_DEVICES") or POOL)
    with claim_tokens(visible, pool, count) as names:
        yield [f"cuda:{visible.index(name)}" for name in names]


def visible_gpus() -> list[str]:
    """Return the UUIDs of the devices that torch sees, in its order."""
    import torch

    count = torch.cuda.device_count()
    return [str(torch.cuda.get_device_properties(i).uuid) for i in range(count)]


@contextlib.contextmanager
def claim_tokens(names: list[str], folder: Path, count: int = 1) -> Iterator[list[str]]:
    """Yield some of the names, held by nobody else; waits until so many are free at once.

    A token is an advisory lock on a file, so the kernel frees it when its holder dies. Who finds
    too few lets those go again: two jobs that each hold a half would wait for ever. All users of
    the machine share the folder.
    """
    _shared_folder(folder)
    waiting = False
    while True:
        with contextlib.ExitStack() as held:
            found: list[str] = []
            for name in names:
                if len(found) < count and _try_lock(folder / f"{name}.lock", held):
                    found.append(name)
            if len(found) == count:
                yield found
                return
        if not waiting:
            log.info("of the devices %s too few are free; waiting", ", ".join(names))
            waiting = True
        time.sleep(POLL_SECONDS * (1 + random.random()))


def _shared_folder(folder: Path) -> None:
    """Make a folder in which everybody may make files, and remove only their own."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(parents=True)
        folder.chmod(0o1777)  # mkdir's own mode is cut by the umask


def _try_lock(path: Path, held: contextlib.ExitStack) -> bool:
    """Lock a file until the stack is left; return whether it was free.

    Who locks a file opens it for writing, so all users may write it, whatever their umask is.
    """
    lock = FileLock(path, mode=0o666, fallback_to_soft=False)
    try:
        held.enter_context(lock.acquire(blocking=False))
    except Timeout:
        return False
    return True
