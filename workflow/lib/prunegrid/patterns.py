"""Which weights of one linear go, given a score for each: exact counts, ties by a fixed rule.

Counting rule: of a linear's n weights floor(sparsity × n) are pruned, with the sparsity read as the
decimal that was written (0.29 of 100 is 29, not 28), so never more than asked. Rows that are pruned
each by itself share that count as evenly as whole numbers can: they differ by one at most. Tie
rule: of equal scores the lowest flat index (row-major) is pruned first. A weight that is zero
already goes before any other, whatever its score, so pruning again counts it.

N:M keeps N of every M consecutive input columns of a row, and prunes exactly M - N.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from prunegrid.errors import PrunegridError

SCOPES = ("row", "layer")


@dataclass(frozen=True)
class Unstructured:
    """Any position may go.

    Attributes:
        sparsity: fraction of zeros, 0 ≤ sparsity ≤ 1; a Fraction where a count is to be exact.
        scope: which weights are compared with each other: a "row" or the whole "layer".
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
        exact = self.sparsity
        if not isinstance(exact, Fraction):
            exact = Fraction(repr(float(exact)))
        return math.floor(exact * count)

    def zeros_between(self, start: int, end: int, unit: int = 1) -> int:
        """Return how many of the weights start…end of a run go, `unit` weights a step.

        Neighbouring parts add up exactly to what their union loses.
        """
        return self.zeros_of(end * unit) - self.zeros_of(start * unit)

    def zeros_by_row(self, rows: int, columns: int) -> Tensor:
        """Return how many weights each of `rows` rows loses, int64 [rows]."""
        counts = [self.zeros_between(row, row + 1, columns) for row in range(rows)]
        return torch.tensor(counts, dtype=torch.int64)


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
    """Return the pattern that a config names.

    Args:
        text: "unstructured" or "N:M".
        sparsity: needed for "unstructured"; with N:M, None or exactly 1 - N/M.
        scope: "row" or "layer" for "unstructured" (default "layer"); N:M has none.

    Raises:
        PrunegridError: the text is neither, or the sparsity is missing, out of range or at odds.
    """
    if text == "unstructured":
        if sparsity is None:
            raise PrunegridError(
                "an unstructured pattern has no sparsity", remedy="set it, 0 ≤ sparsity ≤ 1"
            )
        return Unstructured(sparsity, scope or "layer")
    parts = re.fullmatch(r"(\d+):(\d+)", str(text))
    if parts is None:
        raise PrunegridError(
            f"pattern is '{text}'", expected="'unstructured' or 'N:M', as in '2:4'"
        )
    pattern = NM(int(parts[1]), int(parts[2]))
    if sparsity is not None and not math.isclose(sparsity, 1 - pattern.keep / pattern.group):
        raise PrunegridError(
            f"sparsity is {sparsity} with pattern {text}",
            expected=f"{1 - pattern.keep / pattern.group:g}, which the pattern sets itself",
            remedy="remove the sparsity",
        )
    return pattern


def require_fit(pattern: Pattern, width: int, name: str) -> None:
    """Check that a linear of `width` input columns can have the pattern.

    Raises:
        PrunegridError: M does not divide the width.
    """
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
    held = count_zeros(weight)
    if not held or (isinstance(pattern, Unstructured) and pattern.scope == "layer"):
        return max(held, zeros_asked(pattern, rows, columns))
    zero = weight == 0
    if isinstance(pattern, NM):
        held = zero.reshape(rows, -1, pattern.group).sum(-1)
        return int(held.clamp(min=pattern.group - pattern.keep).sum())
    asked = pattern.zeros_by_row(rows, columns).to(weight.device)
    return int(torch.maximum(zero.sum(1), asked).sum())


def count_zeros(weight: Tensor) -> int:
    """Return how many entries of a tensor are zero."""
    if weight.device.type != "cpu":
        return weight.numel() - int(torch.count_nonzero(weight))
    # numpy counts booleans seven times as fast as torch counts floats.
    return int(np.count_nonzero((weight == 0).numpy()))


def prune_lowest(weight: Tensor, scores: Tensor, pattern: Pattern) -> Tensor:
    """Return `weight` with the lowest-scoring weights set to zero, in its own shape and dtype.

    Args:
        weight: [d_out, d_in].
        scores: [d_out, d_in], not negative, no NaN; higher means kept.
        pattern: what goes.
    """
    scores = torch.where(weight == 0, -1.0, scores.float())
    return apply_mask(weight, keep_mask(scores, pattern))


def apply_mask(weight: Tensor, mask: Tensor) -> Tensor:
    """Return a finite `weight` with 0 where `mask` is False, in its own dtype."""
    # Three times as fast as torch.where on a CPU, numpy half as fast again where it knows the
    # dtype; adding 0 turns each -0 into 0.
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        return torch.from_numpy(np.multiply(weight.detach().numpy(), mask.numpy())).add_(0)
    return (weight * mask).add_(0)


def keep_mask(scores: Tensor, pattern: Pattern) -> Tensor:
    """Return the bool mask [d_out, d_in] of the weights that stay (True = kept).

    Args:
        scores: [d_out, d_in] float32 without NaN.
        pattern: what goes.

    Raises:
        PrunegridError: M does not divide d_in.
    """
    rows, columns = scores.shape
    if isinstance(pattern, NM):
        require_fit(pattern, columns, "scores")
        gone = lowest_of_group(_members(scores, pattern.group), pattern.group - pattern.keep)
        return ~_interleaved(gone).reshape(rows, columns)
    if pattern.scope == "row":
        return ~lowest_by_row(scores, pattern.zeros_by_row(rows, columns))
    flat = scores.reshape(1, -1)
    return ~lowest(flat, pattern.zeros_of(flat.shape[1])).reshape(rows, columns)


def lowest_by_row(scores: Tensor, counts: Tensor) -> Tensor:
    """Return the bool mask of each row's lowest scores, `counts` int64 [rows] of them."""
    distinct = counts.unique().tolist()
    if len(distinct) == 1:
        return lowest(scores, distinct[0])
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    for count in distinct:
        rows = (counts == count).nonzero()[:, 0].to(scores.device)
        chosen[rows] = lowest(scores[rows], count)
    return chosen


def lowest(scores: Tensor, count: int) -> Tensor:
    """Return the bool mask of the `count` lowest scores of each row, ties by lowest column.

    A partition finds the threshold, then only rows with more ties than room count them out:
    an order of magnitude cheaper than a stable sort, with the same result.

    Args:
        scores: [rows, n] float32 without NaN.
        count: 0 ≤ count ≤ n.
    """
    if count <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if count >= scores.shape[1]:
        return torch.ones_like(scores, dtype=torch.bool)
    threshold = _kth(scores, count)
    chosen = scores <= threshold
    crowded = (chosen.sum(1, dtype=torch.int32) > count).nonzero()[:, 0]
    if len(scores) == 1 and len(crowded):
        # One long row: its ties are few, so they are listed.
        tied = (scores[0] == threshold[0]).nonzero()[:, 0]
        excess = int(chosen.sum()) - count
        chosen[0, tied[len(tied) - excess :]] = False
    elif len(crowded):
        part, cut = scores[crowded], threshold[crowded]
        below, tied = part < cut, part == cut
        room = count - below.sum(1, keepdim=True)
        chosen[crowded] = below | (tied & (tied.cumsum(1) <= room))
    return chosen


def _kth(scores: Tensor, count: int) -> Tensor:
    """Return the `count`-th lowest score of each row, [rows, 1]."""
    if scores.device.type == "cpu":
        values = np.partition(scores.numpy(), count - 1, axis=1)[:, count - 1 : count]
        return torch.from_numpy(np.ascontiguousarray(values))
    return scores.kthvalue(count, dim=1, keepdim=True).values


def lowest_of_group(members: Tensor, count: int) -> Tensor:
    """Return which members of n groups of M are among the `count` lowest of their group.

    Ties go by the first member. By comparing: for small M far cheaper than sorting.

    Args:
        members: float32 [M, n] without NaN: the first of each group, the second, …
        count: 0 ≤ count ≤ M.

    Returns:
        bool [M, n].
    """
    size, groups = members.shape
    if size > 16:
        return lowest(members.t().contiguous(), count).t()
    if size == 4 and count == 2:
        gone = members <= _second_of_four(members)
        # More than two are as low only where there are ties, which go by rank below.
        if groups * 2 == (np.count_nonzero(gone.numpy()) if gone.is_cpu else int(gone.sum())):
            return gone
    ranks = torch.zeros(members.shape, dtype=torch.uint8, device=members.device)
    for first, second in itertools.combinations(range(size), 2):
        before = members[first] <= members[second]
        ranks[second] += before
        ranks[first] += ~before
    return ranks < count


def _second_of_four(members: Tensor) -> Tensor:
    """Return the second lowest of [4, n], [n]."""
    low = torch.minimum(members[:2], members[2:])
    high = torch.maximum(members[:2], members[2:])
    # The lower of one pair's higher and the other pair's, or the higher of both pairs' lower ones.
    return torch.minimum(torch.maximum(low[0], low[1]), torch.minimum(high[0], high[1]))


def _members(scores: Tensor, group: int) -> Tensor:
    """Return [M, n] of scores whose rows hold groups of M one after another."""
    members = scores.reshape(-1, group).t()
    if members.is_cpu:
        # torch takes five times as long to turn so narrow a matrix.
        return torch.from_numpy(np.ascontiguousarray(members.numpy()))
    return members.contiguous()


def _interleaved(chosen: Tensor) -> Tensor:
    """Return bool [n, M], contiguous, for [M, n]."""
    if len(chosen) != 4:
        return chosen.t().contiguous()
    # Four bytes put into one word each: twice as fast as to write every fourth byte.
    words = chosen[0].int()
    for place in (1, 2, 3):
        words |= chosen[place].int() << (8 * place)
    return words.view(torch.bool)
