"""What this process asks of glibc's malloc, so that its peak memory is that of its tensors.

Where malloc is another library's, nothing is asked and nothing else changes. No number depends on
any of it.
"""

from __future__ import annotations

import contextlib
import ctypes

# Numbers of mallopt's parameters, from glibc's malloc.h.
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def _ask(parameter: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(parameter, value)


def share_one_arena() -> None:
    """Have all threads served from one arena.

    An arena for each sample's thread keeps what the others could use: OPT-125m's peak with 16
    samples of 512 tokens is 1.43 GB with an arena each and 1.21 GB with one.
    """
    _ask(_M_ARENA_MAX, 1)


def trim() -> None:
    """Give freed memory back to the system now."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def give_back() -> None:
    """Have whatever is larger than 1 MiB go back to the system as soon as it is freed.

    Else malloc raises that bound by itself, up to 32 MiB, and keeps smaller tensors' room in a
    heap that their order breaks up: a model's peak would grow with its layers.
    """
    _ask(_M_MMAP_THRESHOLD, 2**20)
