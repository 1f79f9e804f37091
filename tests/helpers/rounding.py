"""How far two computations of the same numbers may be apart by rounding alone."""

from __future__ import annotations

import torch
from torch import Tensor


def close(
    found: Tensor, expected: Tensor, terms: int, magnitude: Tensor | float | None = None
) -> bool:
    """Return whether two tensors are equal up to the order in which sums are taken.

    In any order, and with any instructions, a sum of n products is off by at most n ε / 2 times
    the sum of the products' magnitudes. So two of them differ by at most n ε times that.

    Args:
        found, expected: float, of one shape; the coarser dtype gives ε.
        terms: how many terms are summed, one sum after another, between the inputs and the result.
        magnitude: the sum of the terms' magnitudes; the largest entry of `expected` if None, for
            networks, whose rounding errors mostly cancel.
    """
    epsilon = max(torch.finfo(found.dtype).eps, torch.finfo(expected.dtype).eps)
    if magnitude is None:
        magnitude = expected.abs().max().double()
    return bool(((found.double() - expected.double()).abs() <= terms * epsilon * magnitude).all())
