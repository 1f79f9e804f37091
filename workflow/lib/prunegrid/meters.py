"""How time and memory are measured: true clocks, peaks."""

from __future__ import annotations

import resource

import torch


def peak_memory(device: str) -> int:
    """Return the peak memory in bytes: allocated on CUDA, the process's resident size on CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def synchronize(device: str) -> None:
    """Wait for the accelerator, so that a clock read next is true."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
