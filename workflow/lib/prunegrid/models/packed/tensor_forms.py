"""How one tensor is written without its zeros, bit for bit, and how few bits that could take.

Three forms, of which the smallest is taken tensor by tensor:

- `dense`: as it is;
- `mask`: one bit a weight (1 = kept) and the kept values, row-major;
- `nm`: for a tensor whose groups of M consecutive columns hold at most N non-zeros each: N values
  a group, and which N of the M they are (`prunegrid.models.packed.byte_groups`). Groups with fewer
  non-zeros keep zeros as values.

The values of a float32 tensor that are int8 values times a scale for each row (`packed_matrix`) are
written so: a byte each, and the scales.

A zero may be negative (a weight times a mask is), and its sign is part of the weights' digest:
where a tensor drops negative zeros, one further bit for each dropped weight says so.

Everything is counted in exact integers on the tensors' bits, on the CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunegrid.common.errors import PrunegridError
from prunegrid.common.nm_pattern import parse_nm
from prunegrid.models import attestation
from prunegrid.models.packed import byte_groups as groups
from prunegrid.models.packed.bits import (
    BITS,
    bits_of,
    byte_count,
    misfit,
    sign_bit,
    typed,
    unpacked,
)
from prunegrid.models.packed.packed_matrix import narrowest, row_scales

# What the names and shapes of a packed tensor's parts add to a file's header, rounded up.
HEADER_BYTES = 320
INT8 = "int8"
# Of a folder that does not say what it was pruned to.
USUAL_PATTERNS = ((2, 4), (4, 8))


@dataclass(frozen=True)
class Form:
    """How one tensor is written.

    Attributes:
        kind: "dense", "mask" or "nm".
        keep: N of N:M.
        group: M of N:M.
        axis: along which groups lie in a matrix, or in each of several [n, rows, columns]: 1, or 0
            where the weight is stored as [d_in, d_out].
        int8: values are int8, and each row along the axis has a scale.
    """

    kind: str = "dense"
    keep: int = 0
    group: int = 0
    axis: int = 1
    int8: bool = False

    def entry(self, shape: list[int]) -> dict[str, Any]:
        """Return what a reader must know, for JSON; a dense tensor says it all itself."""
        if self.kind == "dense":
            return {"form": "dense"}
        entry: dict[str, Any] = {"form": self.kind, "shape": shape}
        if self.kind == "nm":
            entry |= {"keep": self.keep, "group": self.group}
        if self.kind == "nm" or self.int8:
            entry["axis"] = self.axis
        return entry | ({"values": INT8} if self.int8 else {})


@dataclass(frozen=True)
class Count:
    """What of a tensor decides its sizes.

    Attributes:
        size: weights.
        nonzero: weights that are not zero.
        value_bytes: of one weight.
        signed_zeros: some zero is negative.
        groups: (N, M, axis) of every pattern that it keeps to.
        scaled: (rows, axis) whose values are int8 times a scale; None without.
    """

    size: int
    nonzero: int
    value_bytes: int
    signed_zeros: bool
    groups: tuple[tuple[int, int, int], ...]
    scaled: tuple[int, int] | None = None

    @property
    def dense_bytes(self) -> int:
        """Return the bytes of all its weights."""
        return self.size * self.value_bytes

    def bytes_of(self, form: Form) -> int:
        """Return the bytes of a form's parts."""
        if form.kind == "dense":
            return self.dense_bytes
        if form.kind == "mask":
            kept, places = self.nonzero, byte_count(self.size)
        else:
            number = self.size // form.group
            kept = number * form.keep
            places = groups.code_bits(form.keep, form.group) * byte_count(number)
        signs = byte_count(self.size - kept) if self.signed_zeros else 0
        values = kept + 4 * self.scaled[0] if form.int8 else kept * self.value_bytes
        return places + values + signs

    def forms(self) -> list[Form]:
        """Return the forms without zeros that lose nothing of it."""
        found = [Form("mask"), *(Form("nm", *place) for place in self.groups)]
        if self.scaled is None:
            return found
        axis = self.scaled[1]
        narrow = [Form("mask", axis=axis, int8=True)]
        if not self.signed_zeros:  # a group of fewer than N keeps zeros, and int8 has one zero
            narrow += [replace(form, int8=True) for form in found[1:] if form.axis == axis]
        return found + narrow

    def bound_bits(self) -> float:
        """Return the fewest bits that a code of places and values takes.

        With s the share of zeros: n H(s) bits of places, H(s) = -s log2 s - (1-s) log2 (1-s), the
        entropy of n independent places; log2 C(M, N) a group where the tensor keeps to N:M and that
        is less; beside them the bits of the values as they are (int8 ones with their scales). Never
        more than the dense tensor's.
        """
        places = [self.size * binary_entropy(self.nonzero / self.size)] if self.size else [0.0]
        places += [
            self.size // group * math.log2(math.comb(group, keep)) for keep, group, _ in self.groups
        ]
        value_bits = 8 * (self.value_bytes if self.scaled is None else 1)
        scales = 0 if self.scaled is None else 32 * self.scaled[0]
        packed = min(places) + self.nonzero * value_bits + scales
        return min(8 * self.dense_bytes, packed)


def binary_entropy(share: float) -> float:
    """Return H(share) in bits."""
    return -sum(p * math.log2(p) for p in (share, 1 - share) if p > 0)


def count(tensor: Tensor, patterns: tuple[tuple[int, int], ...] = ()) -> Count:
    """Return the counts of a tensor on the CPU.

    Args:
        tensor: any shape and dtype.
        patterns: (N, M) to try, along the rows first and then, for weights stored as
            [d_in, d_out], along the columns.
    """
    value_bytes = tensor.element_size()
    if tensor.dtype not in BITS:
        return Count(tensor.numel(), tensor.numel(), value_bytes, False, ())
    bits = bits_of(tensor)
    sign = sign_bit(bits)
    nonzero = int(np.count_nonzero(bits & ~sign))
    found = []
    for keep, group in patterns:
        axis = _axis_of(tensor, keep, group) if nonzero * group <= tensor.numel() * keep else None
        if axis is not None:
            found.append((keep, group, axis))
    signed = bool((bits == sign).any())
    scaled = _scaled(tensor) if nonzero else None
    return Count(tensor.numel(), nonzero, value_bytes, signed, tuple(found), scaled)


def _scaled(tensor: Tensor) -> tuple[int, int] | None:
    """Return (rows, axis) of a float32 matrix of int8 values times a scale for each row."""
    if tensor.dtype != torch.float32 or tensor.dim() not in (2, 3):
        return None
    for axis in (1, 0):
        weight = _matrix(tensor, axis)
        if narrowest(weight) == INT8:
            return len(weight), axis
    return None


def _axis_of(tensor: Tensor, keep: int, group: int) -> int | None:
    """Return the axis along which a tensor keeps N of every M, None for neither."""
    if tensor.dim() not in (2, 3) or not 0 < keep < group <= groups.LARGEST_GROUP:
        return None
    if not tensor.numel():
        return None
    for axis in (1, 0):
        if tensor.shape[axis - 2] % group:
            continue
        weight = _matrix(tensor, axis)
        # The first rows alone refuse nearly all that have to be refused.
        if not any(attestation.nm_violations(w, keep, group) for w in (weight[:16], weight)):
            return axis
    return None


def _matrix(tensor: Tensor, axis: int) -> Tensor:
    """Return a tensor [rows, columns], or matrices one below the other, with groups in its rows."""
    matrix = tensor.reshape(-1, tensor.shape[-1])
    return matrix if axis else matrix.t()


def choose(counted: Count) -> Form:
    """Return the smallest form; dense where another would save less than its header takes."""
    best = min(counted.forms(), key=counted.bytes_of)
    gains = counted.bytes_of(best) + HEADER_BYTES < counted.dense_bytes
    return best if gains else Form()


def parts_of(form: Form) -> tuple[str, ...]:
    """Return the names of a form's parts; `signs` only where there are negative zeros."""
    names = {"dense": ("",), "mask": ("mask", "values"), "nm": ("codes", "values")}[form.kind]
    return (*names, "scales") if form.int8 else names


def encode(tensor: Tensor, form: Form) -> dict[str, Tensor]:
    """Return the parts of a tensor by name: its own, contiguous, for `dense`.

    `mask` uint8 [⌈n/8⌉], `codes` uint8 [bits, ⌈groups/8⌉], `values` [kept] in the tensor's dtype or
    int8, then `scales` float32 [rows], `signs` uint8 [⌈dropped/8⌉]. All are in the order of the
    matrix whose rows lie along the form's axis.
    """
    if form.kind == "dense":
        return {"": tensor.contiguous()}
    matrix = tensor if form.axis else _matrix(tensor, 0)
    bits = bits_of(matrix)
    sign = sign_bit(bits)
    kept = (bits & ~sign) != 0
    parts = {}
    if form.kind == "nm":
        parts["codes"], kept = groups.encoded(kept, form.keep, form.group)
    else:
        parts["mask"] = torch.from_numpy(np.packbits(kept))
    if form.int8:
        rows = matrix.reshape(-1, matrix.shape[-1])
        parts["scales"] = row_scales(rows)
        steps = (rows / parts["scales"][:, None]).round_().to(torch.int8).reshape(-1)
        parts["values"] = steps[torch.from_numpy(np.flatnonzero(kept))]
    else:
        parts["values"] = typed(bits[np.flatnonzero(kept)], tensor.dtype)
    if (bits == sign).any():
        signs = bits[~kept] != 0
        if signs.any():
            parts["signs"] = torch.from_numpy(np.packbits(signs))
    return parts


def decode(form: Form, shape: list[int], parts: dict[str, Tensor]) -> Tensor:
    """Return the tensor [shape] that `encode` wrote, bit for bit.

    Raises:
        PrunegridError: the parts do not fit each other, the form or the shape.
    """
    size, values = math.prod(shape), parts["values"]
    dtypes = (torch.int8,) if form.int8 else BITS
    if values.dtype not in dtypes or values.dim() != 1:
        kind = "int8" if form.int8 else "floating-point"
        raise misfit("values", values, f"one row of {kind} values")
    if form.kind == "nm":
        kept = groups.kept_places(form.keep, form.group, size, parts["codes"])
    else:
        kept = unpacked("mask", parts["mask"], size)
    places = np.flatnonzero(kept)
    if len(places) != values.numel():
        raise PrunegridError(
            f"{values.numel()} values", expected=f"{len(places)}, as its places say"
        )
    if form.int8:
        rows = size // shape[-1] if form.axis else shape[-1]
        values = _times_scales(values, parts["scales"], places, rows, size)
    bits = np.zeros(size, BITS[values.dtype][1])
    bits[places] = bits_of(values)
    if "signs" in parts:
        signs = unpacked("signs", parts["signs"], size - len(places))
        bits[~kept] = np.where(signs, sign_bit(bits), bits.dtype.type(0))
    tensor = typed(bits, values.dtype)
    if form.axis:
        return tensor.reshape(shape)
    return tensor.reshape(shape[-1], -1).t().reshape(shape).contiguous()


def _times_scales(
    values: Tensor, scales: Tensor, places: np.ndarray, rows: int, size: int
) -> Tensor:
    """Return int8 values at some places of a matrix [rows, …], times the scales of their rows."""
    if scales.dtype != torch.float32 or scales.shape != (rows,):
        raise misfit("scales", scales, f"float32 [{rows}]")
    return values.to(torch.float32) * scales[torch.from_numpy(places // (size // rows))]


def patterns_of(pattern: str | None) -> tuple[tuple[int, int], ...]:
    """Return the (N, M) of a checkpoint's pattern; the usual ones where it names none."""
    found = parse_nm(pattern)
    return USUAL_PATTERNS if found is None else (found,)
