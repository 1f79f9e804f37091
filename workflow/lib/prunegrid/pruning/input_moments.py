"""Squares, means and variances of inputs by column, added up over samples in one pass.

A variance as mean(x²) - mean(x)² loses its digits where the mean is far above the deviation. Here
it is a sum of squares of what is left of x beside the mean so far; sums of several samples are put
together in float64 (Chan, Golub & LeVeque 1983, Algorithms for Computing the Sample Variance,
eq. 2.1).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Tokens whose sums are added at once: what is held of them stays in a processor's cache.
ROWS = 64


def sum_of_squares(flat: Tensor) -> Tensor:
    """Return Σ x² over the tokens, [d_in], without a copy of all the squares."""
    sums = torch.zeros_like(flat[:ROWS])
    for start in range(0, len(flat), ROWS):
        rows = flat[start : start + ROWS]
        sums[: len(rows)].addcmul_(rows, rows)
    return sums.sum(0)


def _sums_beside(flat: Tensor, center: Tensor) -> tuple[Tensor, Tensor]:
    """Return Σ (x - center) and Σ (x - center)² over the tokens, each [d_in]."""
    sums = torch.zeros_like(flat[:ROWS])
    squares, beside = torch.zeros_like(sums), torch.empty_like(sums)
    for start in range(0, len(flat), ROWS):
        rows = flat[start : start + ROWS]
        rest = torch.sub(rows, center, out=beside[: len(rows)])
        sums[: len(rows)] += rest
        squares[: len(rows)].addcmul_(rest, rest)
    return sums.sum(0), squares.sum(0)


class Moments:
    """The mean of some tokens' inputs, and the sum of squares beside it; float64 [width]."""

    def __init__(self, width: int, device: torch.device | str) -> None:
        self.tokens = 0
        self.mean = torch.zeros(width, dtype=torch.float64, device=device)
        self.squares = torch.zeros_like(self.mean)

    def add(self, flat: Tensor) -> None:
        """Add the inputs of some tokens, float32 [tokens, width]."""
        # The mean so far is near enough; of the first tokens that of a few.
        center = self.mean.float() if self.tokens else flat[:ROWS].mean(0)
        sums, squares = (part.double() for part in _sums_beside(flat, center))
        offset = sums / max(len(flat), 1)
        self.merge(len(flat), center.double() + offset, squares - sums * offset)

    def merge(self, tokens: int, mean: Tensor, squares: Tensor) -> None:
        """Add other tokens by their own mean and sum of squares."""
        if not tokens:
            return
        both, apart = self.tokens + tokens, mean - self.mean
        self.squares += squares + apart.square() * (self.tokens * tokens / both)
        self.mean += apart * (tokens / both)
        self.tokens = both

    def variance(self) -> Tensor:
        """Return the mean square beside the mean, float32 [width]."""
        return (self.squares / max(self.tokens, 1)).clamp(min=0).float()
