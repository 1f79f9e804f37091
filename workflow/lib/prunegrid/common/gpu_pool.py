"""GPUs for a job, from a pool that all jobs of a machine share."""

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
    """Yield ["cpu"], or `count` devices "cuda:<i>" that no other job holds meanwhile.

    Devices go by their UUIDs, which stay the same however a scheduler or CUDA_VISIBLE_DEVICES
    numbers them.

    Args:
        kind: "cpu" or "cuda".

    Raises:
        PrunegridError: torch sees fewer CUDA devices than that.
    """
    if kind == "cpu":
        yield ["cpu"]
        return
    visible = visible_gpus()
    if len(visible) < count:
        seen = f"sees {len(visible)} of the {count}" if visible else "sees no"
        raise PrunegridError(
            f"is cuda, but torch {seen} CUDA device{'s' if count > 1 else ''} here",
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
    """Yield `count` of the names once so many are free; nobody else holds them meanwhile.

    A token is an advisory lock on a file in `folder`, which all users of the machine share. The
    kernel frees it when its holder dies. A job that finds too few lets them go again: two jobs
    that each hold a half would wait for ever.
    """
    _shared_folder(folder)
    waiting = False
    while True:
        with contextlib.ExitStack() as locks:
            claimed: list[str] = []
            for name in names:
                if len(claimed) < count and _try_lock(folder / f"{name}.lock", locks):
                    claimed.append(name)
            if len(claimed) == count:
                yield claimed
                return
        if not waiting:
            log.info("waiting for %d of the devices %s", count, ", ".join(names))
            waiting = True
        time.sleep(POLL_SECONDS * (1 + random.random()))


def _shared_folder(folder: Path) -> None:
    """Make a folder in which everybody may make files, and remove only their own."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(parents=True)
        folder.chmod(0o1777)  # mkdir's own mode is cut by the umask


def _try_lock(path: Path, locks: contextlib.ExitStack) -> bool:
    """Lock a file until the stack is left; return whether it was free."""
    # Locking opens the file for writing, so all users may write it, whatever their umask is.
    lock = FileLock(path, mode=0o666, fallback_to_soft=False)
    try:
        locks.enter_context(lock.acquire(blocking=False))
    except Timeout:
        return False
    return True
