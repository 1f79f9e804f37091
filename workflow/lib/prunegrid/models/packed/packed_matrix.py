"""One linear's weight without its zeros, in memory, as the kernels read it.

A file's forms (`prunegrid.models.packed.tensor_forms`) are made for size, this one for speed: each
row has a bit mask padded to whole words of 64 columns, its values lie one after the other, and
`starts` says where each row's begin. `kernels/kernels.h` has the layout. int8 values with a float32
scale for each row exist in memory alone: no file has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prunegrid.common.errors import PrunegridError
from prunegrid.models.packed.bits import BITS, bits_of, sign_bit, typed

VALUES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
# Rows that refuse nearly all types of values that a weight would lose bits in.
FIRST_ROWS = 16
# Columns of a mask word, and bytes behind the last value that a kernel may load (kernels.h).
WORD, READ_AHEAD = 64, 64


@dataclass(frozen=True)
class PackedMatrix:
    """A weight [rows, columns] as masks and values.

    Attributes:
        columns: how many there are.
        dtype: of the stored weight.
        mask: int64 [rows, ⌈columns / 64⌉]; bit b of word w is column 64 w + b, 1 where it is kept.
        values: float32, bfloat16 or int8 [kept + 64 bytes], row by row.
        starts: int64 [rows + 1], the index of each row's first value.
        scale: float32 [rows], by which int8 values are multiplied; else None.
        signs: like `mask`, 1 where a dropped zero is negative; None where none is.

    Raises:
        PrunegridError: the mask does not fit the values, or the columns.
    """

    columns: int
    dtype: torch.dtype
    mask: Tensor
    values: Tensor
    starts: Tensor
    scale: Tensor | None = None
    signs: Tensor | None = None

    def __post_init__(self) -> None:
        words = self.mask.numpy().view(np.uint64)
        counts = np.bitwise_count(words).sum(1, dtype=np.int64)
        starts, spare = self.starts.numpy(), _spare(self.values.dtype)
        if words.shape[1] != _words(self.columns) or len(starts) != len(words) + 1:
            raise PrunegridError(
                f"a mask of {words.shape[1]} words and {len(starts) - 1} rows of values",
                expected=f"{_words(self.columns)} words, and rows as the mask has: {len(words)}",
            )
        if self.columns % WORD and (words[:, -1] >> np.uint64(self.columns % WORD)).any():
            raise PrunegridError("its mask has bits beyond the last column", expected="none")
        if not np.array_equal(np.diff(starts), counts) or starts[0] != 0:
            raise PrunegridError(
                f"{starts[-1]} values", expected=f"{counts.sum()}, as the mask of each row says"
            )
        if len(self.values) < starts[-1] + spare:
            raise PrunegridError(
                f"{len(self.values)} values",
                expected=f"{starts[-1]}, as its mask says, and {spare} behind them",
            )

    @classmethod
    def of(cls, weight: Tensor, values: str = "float32") -> PackedMatrix:
        """Return a weight without its zeros.

        Args:
            weight: [rows, columns] on the CPU, a float of at most 32 bits; NaN and infinity are
                values as any other, but not for int8.
            values: "float32" (loses nothing), "bfloat16" (rounds to nearest), or "int8" (rounds
                w / s to nearest, where the scale s of a row is its largest magnitude / 127, rounded
                up to 17 bits). 127 s is a float32 then, so the rounded weight packs to itself.

        Raises:
            PrunegridError: int8 cannot hold the weight.
        """
        rows, columns = weight.shape
        bits = bits_of(weight).reshape(rows, columns)
        kept = (bits & ~sign_bit(bits)) != 0
        signs = (bits != 0) & ~kept
        counts = kept.sum(1, dtype=np.int64)
        chosen = typed(bits[kept], weight.dtype).to(torch.float32)
        scale = None
        if values == "int8":
            scale = row_scales(weight)
            each = scale.repeat_interleave(torch.from_numpy(counts))
            chosen = (chosen / each).round_().clamp_(-127, 127)
        spare = torch.zeros(_spare(VALUES[values]), dtype=VALUES[values])
        return cls(
            columns,
            weight.dtype,
            _masked(kept),
            torch.cat([chosen.to(VALUES[values]), spare]),
            torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])),
            scale,
            _masked(signs) if signs.any() else None,
        )

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.starts) - 1

    @property
    def value_type(self) -> str:
        """Its type of values, by its name in VALUES."""
        return str(self.values.dtype).removeprefix("torch.")

    @property
    def zeros(self) -> int:
        """How many weights are dropped."""
        return self.rows * self.columns - int(self.starts[-1])

    def parts(self) -> list[Tensor]:
        """Return the tensors that it consists of."""
        found = (self.mask, self.values, self.starts, self.scale, self.signs)
        return [part for part in found if part is not None]

    def dense(self) -> Tensor:
        """Return the weight [rows, columns] in its stored dtype, negative zeros included.

        It has the bits of the weight that was packed, unless its values are narrower. (A NaN stays
        a NaN; in 16 bits it may become another one.)
        """
        kept = _places(self.mask, self.columns)
        values = self.values[: int(self.starts[-1])].to(torch.float32)
        if self.scale is not None:
            values *= self.scale.repeat_interleave(self.starts.diff())
        bits = np.zeros(kept.shape, BITS[self.dtype][1])
        bits[kept] = bits_of(values.to(self.dtype))
        if self.signs is not None:
            bits[_places(self.signs, self.columns)] = sign_bit(bits)
        return typed(bits.reshape(-1), self.dtype).reshape(kept.shape)

    def times(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x Wᵀ + b by a kernel, [..., rows], in the dtype of x; sums are float32.

        A dropped weight counts as the zero that it is: times infinity it gives NaN, as in torch.

        Args:
            x: floats [..., columns] on the CPU. Up to eight tokens are multiplied as they are; for
                more, tiles of rows are expanded into torch's own product.
            bias: float32 [rows].
        """
        parts = (self.mask, self.values, self.starts, self.scale)
        return torch.ops.prunegrid.packed_linear(x, *parts, bias)

    def taken(self, rows: Tensor) -> Tensor:
        """Return the weights of rows (int64 [n], any order), float32 [n, columns].

        Raises:
            IndexError: there is no such row.
        """
        first, last = self.starts[:-1][rows], self.starts[1:][rows]
        starts = torch.cat([self.starts[:1], (last - first).cumsum(0)])
        moved = (first - starts[:-1]).repeat_interleave(last - first)
        values = self.values[torch.arange(len(moved)) + moved]
        spare = values.new_zeros(_spare(values.dtype))
        scale = None if self.scale is None else self.scale[rows]
        parts = (self.mask[rows], torch.cat([values, spare]), starts, scale)
        return torch.ops.prunegrid.packed_expand(*parts, self.columns)

    def slice(self, first: int, last: int) -> PackedMatrix:
        """Return rows `first` to `last` - 1; masks, values and scales are views of this one's."""
        starts = self.starts[first : last + 1]
        values = self.values[int(starts[0]) : int(starts[-1]) + _spare(self.values.dtype)]
        rest = (None if p is None else p[first:last] for p in (self.scale, self.signs))
        mask = self.mask[first:last]
        return PackedMatrix(self.columns, self.dtype, mask, values, starts - starts[0], *rest)


def stacked(matrices: Sequence[PackedMatrix]) -> PackedMatrix:
    """Return matrices of the same columns, dtype and type of values, one below the other."""
    counts = [int(matrix.starts[-1]) for matrix in matrices]
    offsets = np.cumsum([0, *counts[:-1]])
    last, signs = matrices[-1], None
    if any(matrix.signs is not None for matrix in matrices):
        signs = torch.cat(
            [torch.zeros_like(m.mask) if m.signs is None else m.signs for m in matrices]
        )
    kept = [matrix.values[:count] for matrix, count in zip(matrices, counts, strict=True)]
    starts = [m.starts[:-1] + int(start) for m, start in zip(matrices, offsets, strict=True)]
    return PackedMatrix(
        last.columns,
        last.dtype,
        torch.cat([matrix.mask for matrix in matrices]),
        torch.cat([*kept, torch.zeros(_spare(last.values.dtype), dtype=last.values.dtype)]),
        torch.cat([*starts, torch.tensor([sum(counts)])]),
        None if last.scale is None else torch.cat([matrix.scale for matrix in matrices]),
        signs,
    )


def packed_bytes(rows: int, columns: int, kept: int, values: str, signed: bool) -> int:
    """Return the bytes that `PackedMatrix.of` takes for a weight.

    Args:
        kept: weights that are not zero.
        signed: some zero is negative.
    """
    dtype = VALUES[values]
    masks = 8 * rows * _words(columns) * (2 if signed else 1)
    scales = 4 * rows if values == "int8" else 0
    return masks + scales + 8 * (rows + 1) + (kept + _spare(dtype)) * dtype.itemsize


def narrowest(weight: Tensor) -> str:
    """Return the type of values that takes the fewest bytes and loses no bit of a weight."""
    wide = weight.to(torch.float32)  # as it is computed with
    for values in ("int8", "bfloat16"):
        if all(_is_exact(part, values) for part in (wide[:FIRST_ROWS], wide)):
            return values
    return "float32"


def _is_exact(weight: Tensor, values: str) -> bool:
    try:
        found = PackedMatrix.of(weight, values).dense()
    except PrunegridError:
        return False
    return np.array_equal(bits_of(found), bits_of(weight))


def _words(columns: int) -> int:
    return -(-columns // WORD)


def _spare(dtype: torch.dtype) -> int:
    """Return how many values READ_AHEAD bytes are."""
    return READ_AHEAD // dtype.itemsize


def _masked(places: np.ndarray) -> Tensor:
    """Return bool [rows, columns] as int64 [rows, words], the first column in the lowest bit."""
    rows, columns = places.shape
    padded = np.zeros((rows, WORD * _words(columns)), bool)
    padded[:, :columns] = places
    return torch.from_numpy(np.packbits(padded, axis=1, bitorder="little").view("<i8"))


def _places(mask: Tensor, columns: int) -> np.ndarray:
    """Return what `_masked` was given."""
    octets = mask.contiguous().numpy().view(np.uint8)
    return np.unpackbits(octets, axis=1, bitorder="little")[:, :columns].view(bool)


def row_scales(weight: Tensor) -> Tensor:
    """Return the scale of each row's int8 values, float32 [rows]; 1 where a row has none.

    Raises:
        PrunegridError: a value is not finite.
    """
    if not torch.isfinite(weight).all():
        raise PrunegridError(
            "it holds NaN or infinite weights",
            expected="finite weights for int8 values",
            remedy="take values: float32",
        )
    largest = weight.to(torch.float32).abs().amax(1) if weight.numel() else torch.zeros(len(weight))
    scales = torch.where(largest > 0, largest / 127, 1.0)
    return ((scales.view(torch.int32) + 127) & ~127).view(torch.float32)
