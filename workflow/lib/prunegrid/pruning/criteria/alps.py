"""ALPS (Meng et al., NeurIPS 2024, arXiv:2406.07831): ADMM with a rising ρ, then least squares.

With H = XᵀX + λI brought to a diagonal of 1, ADMM (`prunegrid.pruning.splitting`) starts at the
dense weights and their largest. Every 3 iterations the share of the kept weights that came or went
sets the penalty: over 0.1, ρ grows by 1.3; over 0.005, by 1.2; any at all, by 1.1; none ends it.
As long as ρ has never grown it falls to a fifth instead, and starts again if the mask has changed.
It also ends after 33 iterations or more once that share is below 0.0003. The largest weights of the
last solution stay (algorithm 1, with the numbers of the authors' code, mazumder-lab/ALPS). Then
the weights that stay are solved for by conjugate gradients under the mask (section 3.3), which is
`prunegrid.pruning.updates.least_squares` from where ADMM ended.

Deviations from the authors' code: it takes ten steps of conjugate gradients, here they go on to
`tolerance` (`solve_iterations: 10` takes ten); counts are the floor and not the nearest; ties go by
the lowest index; inputs that were always zero get H_jj = 1, and their weights go first; λ is
raised where H is not positive definite, and recorded. Where no token was seen, the smallest
weights go and the others stay as they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from prunegrid.common.errors import PrunegridError
from prunegrid.pruning.column_sweep import dampened, with_more_dampening
from prunegrid.pruning.input_stats import InputStats
from prunegrid.pruning.patterns import Pattern, keep_mask, prune_lowest, zeros_asked
from prunegrid.pruning.splitting import Splitting, shrinking_of
from prunegrid.pruning.updates.least_squares import conjugate_gradients

CITE = ("meng2024alps",)
NEEDS = "hessian"
OPERATIONS = 60_000.0  # a parameter, for estimates of time
SETTINGS: dict[str, Any] = {
    "dampening": 0.01,
    "rho": 0.1,
    "iterations": 300,
    "solve_iterations": 100,
    "tolerance": 1.0e-3,
}
MEANINGS = {
    "dampening": "The share of H's mean diagonal that is added to the diagonal.",
    "rho": "The penalty ρ that ADMM starts with.",
    "iterations": "The most iterations of ADMM.",
    "solve_iterations": "The most iterations of conjugate gradients after it.",
    "tolerance": "The relative residual at which these end.",
}
SCOPE = "layer"
DRAWS = False
UPDATES = True

CHECK = 3  # iterations between two looks at the mask
SETTLED, FIRST_END = 3e-4, 31  # the share that ends it, and from which iteration on
GROWTHS = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))  # (share of the mask that changed, growth of ρ)
GROWS_FROM = 0.005  # the share at which ρ grows for the first time, and never falls after
FALL, LARGEST_RHO = 5.0, 1e6


class Spectrum(NamedTuple):
    """H̄ = Q diag(values) Qᵀ, the Hessian brought to a diagonal of 1."""

    scale: Tensor  # s, the square roots of H's diagonal, float32 [d_in]
    values: Tensor  # float64 [d_in]
    vectors: Tensor  # Q, float32 [d_in, d_in]


def prune_linear(
    weight: Tensor,
    stats: InputStats,
    pattern: Pattern,
    *,
    dampening: float,
    rho: float,
    iterations: int,
    solve_iterations: int,
    tolerance: float,
) -> tuple[Tensor, dict[str, Any]]:
    """Return the pruned and updated weight [d_out, d_in], and facts of both parts.

    Args:
        dampening: λ as a fraction of the mean diagonal of H.
        rho: ρ at first; H̄'s diagonal is 1.
        iterations: the most iterations of ADMM.
        solve_iterations: the most iterations of conjugate gradients.
        tolerance: of their residual's norm over all rows, relative to where they start.

    Raises:
        PrunegridError: a setting is out of range, or no dampening makes H positive definite.
    """
    if dampening < 0 or rho <= 0 or min(iterations, solve_iterations, tolerance) < 0:
        raise PrunegridError(
            f"dampening {dampening}, rho {rho}, iterations {iterations}, "
            f"solve_iterations {solve_iterations}, tolerance {tolerance}",
            expected="rho above 0, and no other below 0",
        )
    asked = zeros_asked(pattern, *weight.shape)
    # Nothing to choose, or nothing known of the inputs to choose by: ADMM would only add rounding.
    if asked in (0, weight.numel()) or stats.tokens == 0:
        return prune_lowest(weight, weight.abs(), pattern), {}
    spectrum, facts = stats.once(("spectrum", dampening), lambda: spectrum_of(stats, dampening))
    dense, dead = weight.float(), stats.hessian.diagonal() == 0
    scaled = dense * spectrum.scale
    first = keep_mask(scaled.abs().masked_fill_(dead, -1), pattern)
    split = Splitting(scaled, dead, first, ratio=0.0)
    facts = facts | _iterate(split, spectrum, pattern, rho, iterations)
    mask = keep_mask(split.sizes(scaled + split.moved), pattern).float()
    start = (dense + split.moved / spectrum.scale).mul_(mask)
    hessian = dampened(stats.hessian.clone(), facts["dampening"])
    left = ((dense - start) @ hessian).mul_(mask)
    limits = {"iterations": solve_iterations, "tolerance": tolerance}
    solution, solved = conjugate_gradients(start, left, hessian, mask, **limits)
    return (solution * mask).to(weight.dtype), facts | solved


def spectrum_of(stats: InputStats, dampening: float) -> tuple[Spectrum, dict[str, Any]]:
    """Return the spectrum of the dampened Hessian and {dampening, precision, fallbacks}.

    Raises:
        PrunegridError: H is not positive definite with any dampening that is tried.
    """

    def attempt(dampening: float, precision: torch.dtype) -> Spectrum | None:
        hessian = dampened(stats.hessian.to(precision, copy=True), dampening)
        scale = hessian.diagonal().sqrt()
        hessian = hessian / scale / scale[:, None]
        if int(torch.linalg.cholesky_ex(hessian).info) != 0:
            return None
        values, vectors = torch.linalg.eigh(hessian)
        return Spectrum(scale.float(), values.clamp(min=0), vectors.float())

    return with_more_dampening(attempt, dampening, (torch.float64,), len(stats.hessian))


def _iterate(
    split: Splitting, spectrum: Spectrum, pattern: Pattern, rho: float, iterations: int
) -> dict[str, Any]:
    """Run ADMM; return {admm_iterations, rho, converged}."""
    first = before = split.mask
    kept, done = int(first.sum()), 0
    grown = converged = False
    shrinking = shrinking_of(spectrum.values, spectrum.vectors, rho)
    while done < iterations and not converged:
        split.step(shrinking)
        split.mask = keep_mask(split.sizes(split.point), pattern)
        done += 1
        if done % CHECK:
            continue
        changed, before = int((split.mask ^ before).sum()), split.mask
        grown = grown or changed > GROWS_FROM * kept
        converged = (grown and not changed) or (done >= FIRST_END and changed < SETTLED * kept)
        ratio = _growth(changed / kept) if grown else 1 / FALL
        if changed and not grown:
            split.restart(first)
        if not converged:
            ratio = min(rho * ratio, LARGEST_RHO) / rho
            split.ratio /= ratio
            rho *= ratio
            shrinking = shrinking_of(spectrum.values, spectrum.vectors, rho)
    return {"admm_iterations": done, "rho": rho, "converged": converged}


def _growth(share: float) -> float:
    """Return the factor of ρ, by the share of the kept weights that changed."""
    return next((growth for least, growth in GROWTHS if share > least), 1.0)
