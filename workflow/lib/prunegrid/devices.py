"""Accelerators for a job: device tokens from a pool that all jobs of a machine share."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from prunegrid.errors import PrunegridError

log = logging.getLogger(__name__)
POLL_SECONDS = 0.2


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
    visible = _visible_gpus()
    if len(visible) < count:
        found = f"sees {len(visible)} of the {count}" if visible else "sees no"
        raise PrunegridError(
            f"is cuda, but torch {found} CUDA device{'s' if count > 1 else ''} here",
            where="config.yaml: device",
            expected="an NVIDIA GPU (one a process) and a CUDA build of torch",
            remedy="set device: cpu, use fewer finetune.processes, or run where there are enough",
        )
    folder = Path(tempfile.gettempdir()) / f"prunegrid-devices-{os.getuid()}"
    with claim_tokens(visible, folder, count) as names:
        yield [f"cuda:{visible.index(name)}" for name in names]


def _visible_gpus() -> list[str]:
    """Return the UUIDs of the devices that torch sees, in its order."""
    import torch

    count = torch.cuda.device_count()
    return [str(torch.cuda.get_device_properties(i).uuid) for i in range(count)]


@contextlib.contextmanager
def claim_tokens(names: list[str], folder: Path, count: int = 1) -> Iterator[list[str]]:
    """Yield some of the names, held by nobody else; waits until so many are free at once.

    A token is an advisory lock on a file, so the kernel frees it when its holder dies. Who finds
    too few lets those go again: two jobs that each hold a half would wait for ever.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
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


def _try_lock(path: Path, held: contextlib.ExitStack) -> bool:
    """Lock a file until the stack is left; return whether it was free."""
    handle = open(path, "w")  # noqa: SIM115 - closed by the stack
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return False
    held.enter_context(handle)
    return True
