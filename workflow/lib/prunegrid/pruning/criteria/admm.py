"""ADMM-Grad (Boža, TMLR 2024, arXiv:2401.02938): ADMM whose sparsity grows, under a fixed ρ.

The Hessian is brought to a diagonal of 1, then λ = `dampening` is added. ADMM
(`prunegrid.pruning.splitting`) runs with ρ = 1. In each of the first `growing_iterations` the mask
is chosen anew by |W + U|, at s_t = s - s (1 - t / growing_iterations)³ of the final sparsity s
(the cubic schedule of Zhu & Gupta, arXiv:1710.01878); in the others it stays. The result is the
last W + U under the mask.

N:M grows likewise: of the weights that N:M would prune, the least go first, within the matrix.

Deviations from the authors' code (fmfi-compbio/admm-pruning), which makes 2:4 of every N:M, and
which within a whole matrix chooses at the final sparsity at once: N:M is the one asked for, and the
sparsity grows for every scope. Counts are exact; ties go by the lowest index; weights of inputs
that were always zero go first. Where no token was seen, the smallest weights go and the others stay
as they are.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from prunegrid.common.errors import PrunegridError
from prunegrid.pruning.column_sweep import with_more_dampening
from prunegrid.pruning.input_stats import InputStats
from prunegrid.pruning.patterns import (
    NM,
    Pattern,
    Unstructured,
    apply_mask,
    keep_mask,
    prune_lowest,
    zeros_asked,
)
from prunegrid.pruning.splitting import Splitting

CITE = ("boza2024fast",)
NEEDS = "hessian"
OPERATIONS = 30_000.0  # a parameter, for estimates of time
SETTINGS: dict[str, Any] = {
    "dampening": 0.1,
    "rho": 1.0,
    "iterations": 20,
    "growing_iterations": 15,
}
MEANINGS = {
    "dampening": "What is added to H's diagonal once that is 1.",
    "rho": "The penalty ρ of ADMM.",
    "iterations": "The iterations of ADMM.",
    "growing_iterations": "In how many of them the sparsity grows and the mask is chosen.",
}
SCOPE = "layer"
DRAWS = False
UPDATES = True


def prune_linear(
    weight: Tensor,
    stats: InputStats,
    pattern: Pattern,
    *,
    dampening: float,
    rho: float,
    iterations: int,
    growing_iterations: int,
) -> tuple[Tensor, dict[str, Any]]:
    """Return the pruned and updated weight [d_out, d_in], and facts of the factorisation.

    Args:
        dampening: λ; the Hessian's diagonal is 1 before.
        rho: the penalty ρ.
        iterations: of ADMM.
        growing_iterations: the first ones, which choose the mask.

    Raises:
        PrunegridError: a setting is out of range, or no dampening makes H positive definite.
    """
    if dampening < 0 or rho <= 0 or not 1 <= growing_iterations <= iterations:
        raise PrunegridError(
            f"dampening {dampening}, rho {rho}, iterations {iterations}, "
            f"growing_iterations {growing_iterations}",
            expected="dampening ≥ 0, rho above 0, 1 ≤ growing_iterations ≤ iterations",
        )
    asked = zeros_asked(pattern, *weight.shape)
    # Nothing to choose, or nothing known of the inputs to choose by: ADMM would only add rounding.
    if asked in (0, weight.numel()) or stats.tokens == 0:
        return prune_lowest(weight, weight.abs(), pattern), {}
    (scale, shrinking), facts = stats.once(
        ("admm", dampening, rho), lambda: _system(stats.hessian, dampening, rho)
    )
    dense = weight.float()
    everything = torch.ones_like(weight, dtype=torch.bool)
    split = Splitting(dense * scale, stats.hessian.diagonal() == 0, everything)
    for number in range(1, iterations + 1):
        if number <= growing_iterations:
            left = Fraction(growing_iterations - number, growing_iterations)
            split.mask = _grown(split.sizes(split.point), pattern, asked, 1 - left**3)
        split.step(shrinking)
    return apply_mask(dense + split.moved / scale, split.mask).to(weight.dtype), facts


def _grown(sizes: Tensor, pattern: Pattern, asked: int, share: Fraction) -> Tensor:
    """Return the mask that prunes a share of the weights that `pattern` asks for.

    Args:
        sizes: [d_out, d_in], those of the weights; the lowest go.
        asked: how many weights the pattern prunes.
    """
    if share == 1:
        return keep_mask(sizes, pattern)
    scope = "layer"
    if isinstance(pattern, NM):
        sizes = sizes.masked_fill(keep_mask(sizes, pattern), torch.inf)
    else:
        scope = pattern.scope
    return keep_mask(sizes, Unstructured(share * Fraction(asked, sizes.numel()), scope))


def _system(
    hessian: Tensor, dampening: float, rho: float
) -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
    """Return (s [d_in], ρ(H̄ + (λ + ρ) I)⁻¹ [d_in, d_in]) in float32, and how it was factored."""
    diagonal = hessian.diagonal()
    scale = torch.where(diagonal == 0, 1.0, diagonal).sqrt()

    def attempt(dampening: float, precision: torch.dtype) -> Tensor | None:
        exact = hessian.to(precision) / scale / scale[:, None]
        exact.diagonal().add_(dampening + rho)
        lower, info = torch.linalg.cholesky_ex(exact)
        return torch.cholesky_inverse(lower).mul_(rho).float() if int(info) == 0 else None

    shrinking, facts = with_more_dampening(attempt, dampening, (torch.float64,), len(hessian))
    return (scale, shrinking), facts
