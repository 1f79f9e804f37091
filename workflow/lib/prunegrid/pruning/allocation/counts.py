"""Whole numbers of zeros, exact for the model, from what an allocation or a ranking wants."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

import torch
from torch import Tensor

from prunegrid.pruning.patterns import Unstructured

# The upper half of a float32's bits: of not negative numbers, their order to 1 part in 128.
BINS = 1 << 15


def exact_zeros(
    wanted: Mapping[str, float], sizes: Mapping[str, int], sparsity: float
) -> dict[str, int]:
    """Return each linear's zeros; together they are floor(sparsity · all weights).

    The sparsities wanted are shifted by one number, within 0 … 1, until they add up; what the
    fractions leave over goes to the linears that lost the largest ones, the first where equal.

    Args:
        wanted: linear → sparsity, 0 … 1.
        sizes: linear → number of its weights.
        sparsity: of the whole model.
    """
    total = Unstructured(sparsity).zeros_of(sum(sizes.values()))
    exact = {name: Fraction(repr(float(share))) for name, share in wanted.items()}
    shifted = _shifted(exact, sizes, total)
    zeros = {name: int(share * sizes[name]) for name, share in shifted.items()}
    left = total - sum(zeros.values())
    rest = {name: shifted[name] * sizes[name] - zeros[name] for name in zeros}
    for name in sorted(zeros, key=lambda name: -rest[name])[:left]:
        zeros[name] += 1
    return zeros


def _shifted(
    shares: Mapping[str, Fraction], sizes: Mapping[str, int], total: int
) -> dict[str, Fraction]:
    """Return shares plus one number, cut to 0 … 1, that ask for `total` zeros in all."""
    # The sum of the cut shares is a broken line in the number; it bends where a share meets 0 or 1.
    bends = sorted({bend for share in shares.values() for bend in (-share, 1 - share)})

    def asked(shift: Fraction) -> Fraction:
        return sum((min(max(s + shift, 0), 1) * sizes[n] for n, s in shares.items()), Fraction(0))

    for low, high in itertools.pairwise(bends):
        below, above = asked(low), asked(high)
        if below <= total <= above:
            part = (total - below) / (above - below) if above > below else 0
            shift = low + part * (high - low)
            return {name: min(max(share + shift, 0), 1) for name, share in shares.items()}
    raise ValueError(f"{total} zeros of {sum(sizes.values())} weights cannot be")


def ranked_zeros(
    names: Iterable[str], scores: Callable[[str], Tensor], count: int
) -> dict[str, int]:
    """Return how many of the `count` lowest scores of all linears together lie in each.

    Of equal scores those of the first linear go first. The scores are computed three times, one
    linear at a time, so they need not fit in memory together.

    Args:
        names: of the linears, in order.
        scores: returns a linear's scores, not negative, without NaN.
    """
    names = list(names)
    if count <= 0:
        return dict.fromkeys(names, 0)
    # Bits of not negative floats sort as the floats do: first the upper half, then the lower.
    upper = sum(histogram(scores(name)) for name in names)
    high, below = _place(upper, count)
    lower = torch.zeros(1 << 16, dtype=torch.int64)
    for name in names:
        bits = _bits(scores(name))
        lower += torch.bincount(bits[bits >> 16 == high] & 0xFFFF, minlength=1 << 16)
    low, _ = _place(lower, count - below)
    threshold = high << 16 | low
    zeros, tied = {}, {}
    for name in names:
        bits = _bits(scores(name))
        zeros[name], tied[name] = int((bits < threshold).sum()), int((bits == threshold).sum())
    left = count - sum(zeros.values())
    for name in names:
        taken = min(tied[name], left)
        zeros[name], left = zeros[name] + taken, left - taken
    return zeros


def histogram(scores: Tensor) -> Tensor:
    """Return how many scores (not negative) fall into each of BINS bins, in order, int64 [BINS]."""
    return torch.bincount(_bits(scores) >> 16, minlength=BINS)


def _bits(scores: Tensor) -> Tensor:
    # Adding 0 turns -0 into 0, whose bits are not those of a large number.
    return scores.detach().float().cpu().flatten().add(0).view(torch.int32)


def _place(counts: Tensor, count: int) -> tuple[int, int]:
    """Return the bin that holds the `count`-th lowest, and how many lie below that bin."""
    reached = counts.cumsum(0)
    place = int((reached >= count).nonzero()[0])
    return place, int(reached[place] - counts[place])
