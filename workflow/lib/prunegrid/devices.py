"""One accelerator a job: device tokens from a pool that all jobs of a machine share."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from prunegrid.errors import PrunegridError

log = logging.getLogger(__name__)
POLL_SECONDS = 0.2


@contextlib.contextmanager
def claim_device(kind: str) -> Iterator[str]:
    """Yield a device for the time of a job: "cpu", or a "cuda:<i>" that no other job holds.

    Tokens go by the devices' UUIDs, which stay the same however a scheduler or
    CUDA_VISIBLE_DEVICES numbers them.

    Args:
        kind: "cpu" or "cuda".

    Raises:
        PrunegridError: "cuda" where there is none.
    """
    if kind == "cpu":
        yield "cpu"
        return
    visible = _visible_gpus()
    if not visible:
        raise PrunegridError(
            "is cuda, but torch sees no CUDA device here",
            where="config.yaml: device",
            expected="an NVIDIA GPU and a CUDA build of torch",
            remedy="set device: cpu, or run on a machine that has one",
        )
    folder = Path(tempfile.gettempdir()) / f"prunegrid-devices-{os.getuid()}"
    with claim_token(visible, folder) as name:
        yield f"cuda:{visible.index(name)}"


def _visible_gpus() -> list[str]:
    """Return the UUIDs of the devices that torch sees, in its order."""
    import torch

    count = torch.cuda.device_count()
    return [str(torch.cuda.get_device_properties(i).uuid) for i in range(count)]


@contextlib.contextmanager
def claim_token(names: list[str], folder: Path) -> Iterator[str]:
    """Yield one of the names, held by nobody else; waits while all are held.

    A token is an advisory lock on a file, so the kernel frees it when its holder dies.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    waiting = False
    while True:
        for name in names:
            handle = open(folder / f"{name}.lock", "w")  # noqa: SIM115 - held while yielded
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.close()
                continue
            try:
                yield name
                return
            finally:
                handle.close()
        if not waiting:
            log.info("all devices (%s) are taken; waiting for one", ", ".join(names))
            waiting = True
        time.sleep(POLL_SECONDS)
