"""Peak memory, and clocks that wait for the accelerator."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path


def peak_memory(device: str = "cpu") -> int:
    """Return the peak memory in bytes: allocated on CUDA, what this process held on CPU.

    `getrusage` would start at the size of the process that started this one.
    """
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def synchronize(device: str) -> None:
    """Wait for the accelerator, so that a clock read next is true."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
