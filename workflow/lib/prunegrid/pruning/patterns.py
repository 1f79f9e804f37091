"""Patterns of one linear's zeros, by a score for each weight: exact counts, ties by a fixed rule.

Counting rule: of a linear's n weights floor(sparsity × n) are pruned, with the sparsity read as the
decimal that was written (0.29 of 100 is 29, not 28). Rows that are pruned each by itself share that
count: they differ by one at most. Tie rule: of equal scores the lowest flat index (row-major) is
pruned first. A weight that is zero already goes before any other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from prunegrid.common.errors import PrunegridError
from prunegrid.common.nm_pattern import parse_nm
from prunegrid.pruning.selection import (
    groups_of,
    lowest,
    lowest_by_row,
    lowest_of_group,
    members_of,
)

SCOPES = ("row", "layer")
# Weights that are pruned at once where rows are independent: they fit a core's own cache.
PART = 1 << 17


@dataclass(frozen=True)
class Unstructured:
    """Any position may go.

    Attributes:
        sparsity: fraction of zeros, 0 ≤ sparsity ≤ 1; a Fraction where a count is to be exact.
        scope: which weights are compared with each other: those of a "row" or of the "layer".
    """

    sparsity: float | Fraction
    scope: str = "layer"

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity <= 1:
            raise PrunegridError(
                f"sparsity is {self.sparsity}", expected="0 ≤ sparsity ≤ 1 (a fraction of zeros)"
            )
        if self.scope not in SCOPES:
            raise PrunegridError(f"scope is '{self.scope}'", expected=" or ".join(SCOPES))

    def zeros_of(self, count: int) -> int:
        """Return floor(sparsity × count), with the sparsity taken as its decimal."""
        return math.floor(self._exact * count)

    @property
    def _exact(self) -> Fraction:
        if isinstance(self.sparsity, Fraction):
            return self.sparsity
        return Fraction(repr(float(self.sparsity)))

    def zeros_by_row(self, rows: int, columns: int) -> Tensor:
        """Return how many weights each of `rows` rows loses, int64 [rows]."""
        # In whole numbers: a Fraction for each row would take longer than to prune it.
        up, down = self._exact.as_integer_ratio()
        sums = [up * row * columns // down for row in range(rows + 1)]
        return torch.tensor([b - a for a, b in itertools.pairwise(sums)], dtype=torch.int64)


@dataclass(frozen=True)
class NM:
    """N:M: `keep` of every `group` consecutive input columns of a row stay."""

    keep: int
    group: int

    def __post_init__(self) -> None:
        if not 0 < self.keep < self.group:
            raise PrunegridError(
                f"pattern is {self.keep}:{self.group}",
                expected="N:M keeps N of every M, so 0 < N < M, as in 2:4",
            )


Pattern = Unstructured | NM


def parse_pattern(text: str, sparsity: float | None = None, scope: str | None = None) -> Pattern:
    """Return the pattern of a config's text, "unstructured" or "N:M".

    Args:
        sparsity: needed for "unstructured"; with N:M, None or exactly 1 - N/M.
        scope: "row" or "layer" (the default); N:M has none.

    Raises:
        PrunegridError: the text is neither, or the sparsity is missing, out of range or at odds.
    """
    if text == "unstructured":
        if sparsity is None:
            raise PrunegridError(
                "an unstructured pattern has no sparsity", remedy="set it, 0 ≤ sparsity ≤ 1"
            )
        return Unstructured(sparsity, scope or "layer")
    parts = parse_nm(str(text))
    if parts is None:
        raise PrunegridError(
            f"pattern is '{text}'", expected="'unstructured' or 'N:M', as in '2:4'"
        )
    pattern = NM(*parts)
    if sparsity is not None and not math.isclose(sparsity, 1 - pattern.keep / pattern.group):
        raise PrunegridError(
            f"sparsity is {sparsity} with pattern {text}",
            expected=f"{1 - pattern.keep / pattern.group:g}, which the pattern sets itself",
            remedy="remove the sparsity",
        )
    return pattern


def require_fit(pattern: Pattern, width: int, name: str) -> None:
    """Raise a PrunegridError if M does not divide a linear's `width` input columns."""
    if isinstance(pattern, NM) and width % pattern.group:
        raise PrunegridError(
            f"the linear has {width} input columns, which {pattern.group} does not divide",
            where=name,
            expected=f"a multiple of {pattern.group} for pattern {pattern.keep}:{pattern.group}",
            remedy="choose another N:M or an unstructured pattern for this model",
        )


def zeros_asked(pattern: Pattern, rows: int, columns: int) -> int:
    """Return how many of [rows, columns] dense weights the pattern prunes."""
    if isinstance(pattern, NM):
        return rows * columns // pattern.group * (pattern.group - pattern.keep)
    return pattern.zeros_of(rows * columns)


def zeros_expected(pattern: Pattern, weight: Tensor) -> int:
    """Return the zeros after pruning `weight` [d_out, d_in] without updates, its own included.

    More than `zeros_asked` only where a row, layer or group holds more zeros already.
    """
    rows, columns = weight.shape
    present = count_zeros(weight)
    if not present or (isinstance(pattern, Unstructured) and pattern.scope == "layer"):
        return max(present, zeros_asked(pattern, rows, columns))
    zero = weight == 0
    if isinstance(pattern, NM):
        present = zero.reshape(rows, -1, pattern.group).sum(-1)
        return int(present.clamp(min=pattern.group - pattern.keep).sum())
    asked = pattern.zeros_by_row(rows, columns).to(weight.device)
    return int(torch.maximum(zero.sum(1), asked).sum())


def count_zeros(weight: Tensor) -> int:
    """Return how many entries of a tensor are zero."""
    if weight.device.type != "cpu":
        return weight.numel() - int(torch.count_nonzero(weight))
    # numpy counts ten times as fast as torch, floats of its own dtypes without a copy.
    if weight.dtype == torch.float32:
        return weight.numel() - int(np.count_nonzero(weight.detach().numpy()))
    return int(np.count_nonzero((weight == 0).numpy()))


def prune_lowest(weight: Tensor, scores: Tensor, pattern: Pattern) -> Tensor:
    """Return `weight` [d_out, d_in] with its lowest-scoring weights set to zero, in its own dtype.

    Args:
        scores: [d_out, d_in], not negative, no NaN; higher means kept.
    """
    return apply_mask(weight, keep_mask(zeros_first(weight, scores.float()), pattern))


def zeros_first(weight: Tensor, scores: Tensor) -> Tensor:
    """Return the scores with -1 where the weight is zero already, which then goes first."""
    zero = weight == 0
    return torch.where(zero, -1.0, scores) if zero.any() else scores


def prune_by_rows(weight: Tensor, score: Callable[[Tensor], Tensor], pattern: Pattern) -> Tensor:
    """Return a finite `weight` [d_out, d_in] as `prune_lowest` does, by scores that rows have.

    Rows that are pruned each by itself are taken some at a time, which stay in the CPU's caches.

    Args:
        score: returns the scores of some rows, float32 without NaN; higher means kept.
    """
    rows, columns = weight.shape
    by_layer = isinstance(pattern, Unstructured) and pattern.scope == "layer"
    if by_layer or weight.device.type != "cpu":
        return apply_mask(weight, keep_mask(score(weight), pattern))
    counts = None if isinstance(pattern, NM) else pattern.zeros_by_row(rows, columns)
    pruned = torch.empty_like(weight)
    step = max(PART // columns, 1)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        scores = score(weight[part])
        if counts is None:
            kept = keep_mask(scores, pattern)
        else:
            kept = ~lowest_by_row(scores, counts[part])
        pruned[part] = apply_mask(weight[part], kept)
    return pruned


def apply_mask(weight: Tensor, mask: Tensor) -> Tensor:
    """Return a finite `weight` with 0 where `mask` is False, in its own dtype."""
    # On a CPU three times as fast as torch.where, and numpy half as fast again. Adding 0 turns each
    # -0 into 0.
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        return torch.from_numpy(np.multiply(weight.detach().numpy(), mask.numpy())).add_(0)
    return (weight * mask).add_(0)


def keep_mask(scores: Tensor, pattern: Pattern) -> Tensor:
    """Return the bool mask [d_out, d_in] of the weights that stay (True = kept).

    Args:
        scores: [d_out, d_in] float32 without NaN.

    Raises:
        PrunegridError: M does not divide d_in.
    """
    rows, columns = scores.shape
    if isinstance(pattern, NM):
        require_fit(pattern, columns, "scores")
        gone = lowest_of_group(members_of(scores, pattern.group), pattern.group - pattern.keep)
        return ~groups_of(gone).reshape(rows, columns)
    if pattern.scope == "row":
        return ~lowest_by_row(scores, pattern.zeros_by_row(rows, columns))
    flat = scores.reshape(1, -1)
    return ~lowest(flat, pattern.zeros_of(flat.shape[1])).reshape(rows, columns)
