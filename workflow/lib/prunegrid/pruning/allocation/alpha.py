"""AlphaPruning (Lu et al., NeurIPS 2024, arXiv:2410.10912): blocks of heavy tails keep more.

The eigenvalues λ of WᵀW of a trained matrix end in a power law λ^-α. For every candidate λ_i of the
tail's start, with n eigenvalues from it on, α = 1 + n / Σ log(λ_j / λ_i) is Hill's estimate; the
start whose fit has the least Kolmogorov-Smirnov distance max |1 - (λ_j / λ_i)^(1-α) - j/n| is
taken. Candidates lie from 0.95 to 1.5 times the peak of the histogram of log10 λ (100 bins). A
block's α is the mean over its linears. Shares of zeros go linearly with α from 1 - `spread` to
1 + `spread` (the paper's ε) of the target, and are scaled so that the model meets it.

Deviations: the authors' code compares the lower bound's logarithm with eigenvalues, so that it
hardly ever binds: here both bounds do. Its shares may exceed 1: here they end at 1 and the others
make up for it. Eigenvalues that are rounding alone (of matrices without full rank) are left out; a
matrix whose spectrum has no tail (a single row, equal eigenvalues) does not count, and a block of
such matrices takes the mean α. All is computed in float64. Where all blocks have the same α the
allocation is uniform.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

CITE = ("lu2024alphapruning",)
NEEDS = "nothing"
SETTINGS: dict[str, Any] = {"spread": 0.3}
MEANINGS = {
    "spread": "How far a block's share of zeros may lie from the target, as a part of it (the "
    "paper's ε).",
}
BINS = 100
# Where the tail may start, as multiples of the peak of the spectrum.
STARTS = (0.95, 1.5)
# Exponents that differ by less, as a part of themselves, are the same.
ALIKE = 1e-9


def allocate(
    blocks: Mapping[str, Mapping[str, Tensor]],
    sparsity: float,
    norms: Mapping[str, Tensor] | None,
    *,
    spread: float = 0.3,
) -> dict[str, float]:
    """Return linear → sparsity, one for all linears of a block.

    Args:
        spread: 0 … 1; 0 is uniform.
    """
    alphas, sizes = {}, {}
    for block, linears in blocks.items():
        # One linear at a time: a large model's weights are read from its files.
        found = {n: (w.numel(), tail_exponent(eigenvalues(w))) for n, w in linears.items()}
        sizes[block] = sum(size for size, _ in found.values())
        fits = [alpha for _, alpha in found.values() if alpha is not None]
        alphas[block] = float(np.mean(fits)) if fits else None
    ratios = _ratios(alphas, spread)
    shares = scaled(ratios, sizes, sparsity)
    return {name: shares[block] for block, linears in blocks.items() for name in linears}


def eigenvalues(weight: Tensor) -> np.ndarray:
    """Return the squared singular values of a weight, ascending, float64, without mere rounding."""
    wide = weight.detach().double()
    wide = wide if wide.shape[0] <= wide.shape[1] else wide.t()
    values = torch.linalg.eigvalsh(wide @ wide.t()).cpu().numpy()
    return values[values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)]


def tail_exponent(values: np.ndarray) -> float | None:
    """Return α of the power law that the tail of a spectrum follows; None where there is no tail.

    Args:
        values: positive, ascending.
    """
    if len(values) < 2 or values[0] == values[-1]:
        return None
    logs = np.log(values)
    counts, edges = np.histogram(np.log10(values), bins=BINS)
    peak = 10 ** edges[counts.argmax()]
    low, high = (times * peak for times in STARTS)
    best = (np.inf, None)
    for start in np.flatnonzero((values >= low) & (values <= high)):
        tail = logs[start:] - logs[start]
        if not tail[-1]:  # from here on all are equal
            break
        alpha = 1 + len(tail) / tail.sum()
        model = 1 - np.exp(tail * (1 - alpha))
        distance = np.abs(model - np.arange(len(tail)) / len(tail)).max()
        best = min(best, (distance, alpha), key=lambda fit: fit[0])
    return None if best[1] is None else float(best[1])


def _ratios(alphas: Mapping[str, float | None], spread: float) -> dict[str, float]:
    """Return block → its share of zeros as a multiple of the target, before it is scaled."""
    known = [alpha for alpha in alphas.values() if alpha is not None]
    # Differences that are rounding alone would be stretched to the whole range.
    if not known or max(known) - min(known) <= ALIKE * max(known):
        return dict.fromkeys(alphas, 1.0)
    low, high, mean = min(known), max(known), float(np.mean(known))
    return {
        block: 1 - spread + 2 * spread * ((mean if alpha is None else alpha) - low) / (high - low)
        for block, alpha in alphas.items()
    }


def scaled(
    ratios: Mapping[str, float], sizes: Mapping[str, int], sparsity: float
) -> dict[str, float]:
    """Return ratios times one number, none above 1, whose mean by size is the sparsity.

    Args:
        ratios: not negative.
    """
    shares, left = {}, dict(ratios)
    while left:
        goal = sparsity * sum(sizes.values()) - sum(sizes[block] for block in shares)
        weighed = sum(ratio * sizes[block] for block, ratio in left.items())
        factor = goal / weighed if weighed > 0 else 1.0
        full = [block for block, ratio in left.items() if ratio * factor >= 1]
        if not full:
            return shares | {block: max(ratio * factor, 0.0) for block, ratio in left.items()}
        for block in full:
            shares[block] = 1.0
            del left[block]
    return shares
