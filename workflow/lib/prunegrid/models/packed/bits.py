"""A tensor's values as unsigned integers, and truth values packed eight a byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunegrid.common.errors import PrunegridError

# Bits of a value as an unsigned integer; a tensor of another dtype is dense.
BITS = {
    torch.float64: (torch.int64, np.uint64),
    torch.float32: (torch.int32, np.uint32),
    torch.float16: (torch.int16, np.uint16),
    torch.bfloat16: (torch.int16, np.uint16),
}


def unpacked(what: str, packed: Tensor, size: int) -> np.ndarray:
    """Return `size` packed bits as bool [size].

    Raises:
        PrunegridError: they are more or fewer, or bits beyond the last are set.
    """
    if packed.dtype != torch.uint8 or list(packed.shape) != [byte_count(size)]:
        raise misfit(what, packed, f"uint8 [{byte_count(size)}]")
    bits = np.unpackbits(packed.numpy())
    if bits[size:].any():
        raise PrunegridError(f"its {what} have bits beyond the {size}th", expected="none")
    return bits[:size].view(bool)


def misfit(what: str, found: Tensor, expected: str) -> PrunegridError:
    """Return the error of a part of the wrong dtype or shape."""
    kind = str(found.dtype).removeprefix("torch.")
    return PrunegridError(f"its {what} are {kind} {list(found.shape)}", expected=expected)


def bits_of(tensor: Tensor) -> np.ndarray:
    """Return the tensor's bits as unsigned integers, row-major, [n]."""
    signed, unsigned = BITS[tensor.dtype]
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(signed).numpy().view(unsigned)


def typed(bits: np.ndarray, dtype: torch.dtype) -> Tensor:
    """Return the tensor [n] that has these bits."""
    return torch.from_numpy(bits.view(f"i{bits.itemsize}")).view(dtype)


def sign_bit(bits: np.ndarray) -> Any:
    """Return the integer of a negative zero."""
    return bits.dtype.type(1 << (8 * bits.itemsize - 1))


def byte_count(bits: int) -> int:
    """Return the bytes that so many bits take."""
    return -(-bits // 8)
