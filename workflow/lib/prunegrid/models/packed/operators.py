"""The kernels for packed weights as operators of torch: loading them, and choosing one.

The variable PRUNEGRID_KERNEL (`plain`, `avx2`, `avx512`, `neon`) names the kernel; without it the
fastest that this CPU has is taken.
"""

from __future__ import annotations

import functools
import logging
import os

import torch
from torch import Tensor

from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.common.packed_kernels import KERNELS, VARIABLE
from prunegrid.models.packed import kernel_build

log = logging.getLogger(__name__)


def load(named: str | None = None) -> str | None:
    """Return the kernel that products use from now on, built where needed.

    None is returned, and a line of the log says why, where kernels cannot be built or loaded.

    Args:
        named: its name; by default that of VARIABLE, or the fastest.

    Raises:
        PrunegridError: VARIABLE names no kernel, or one that this CPU cannot run.
    """
    wanted = named or os.environ.get(VARIABLE)
    if wanted and wanted not in KERNELS:
        raise PrunegridError(
            f"'{wanted}'", where=VARIABLE, expected="a kernel", remedy=nearest(wanted, KERNELS)
        )
    try:
        found = usable()
    except PrunegridError as error:
        log.warning("packed weights are expanded into dense linears: %s", error)
        return None
    return use(wanted or found[0])


def usable() -> list[str]:
    """Return the kernels that this CPU has instructions for, the fastest first.

    Raises:
        PrunegridError: they cannot be built or loaded.
    """
    _load_library()
    return torch.ops.prunegrid.kernels()


def use(name: str) -> str:
    """Have all products use a kernel; return its name.

    Raises:
        PrunegridError: this CPU does not have its instructions.
    """
    if name not in usable():
        raise PrunegridError(
            f"this CPU has no {name}", where=VARIABLE, expected=f"one of {', '.join(usable())}"
        )
    torch.ops.prunegrid.use_kernel(name)
    return name


@functools.cache
def _load_library() -> None:
    path = kernel_build.library()
    try:
        torch.ops.load_library(path)
    except OSError as error:
        raise PrunegridError(
            f"the built kernels cannot be loaded ({error})",
            where=str(path),
            remedy="delete that folder: they are built again",
        ) from error

    @torch.library.register_fake("prunegrid::packed_linear")
    def linear(x: Tensor, mask: Tensor, values: Tensor, starts: Tensor, scale, bias) -> Tensor:
        return x.new_empty((*x.shape[:-1], starts.shape[0] - 1))

    @torch.library.register_fake("prunegrid::packed_expand")
    def expand(mask: Tensor, values: Tensor, starts: Tensor, scale, columns: int) -> Tensor:
        return mask.new_empty((starts.shape[0] - 1, columns), dtype=torch.float32)
