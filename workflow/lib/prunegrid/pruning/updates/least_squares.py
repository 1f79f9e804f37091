"""The least-squares reconstruction: the best weights that a mask allows.

Each row of Ŵ minimises (ŵ - w) H (ŵ - w)ᵀ over the weights that its mask keeps, with
H = (2/n) XᵀX + λI: the error of the linear's output on the calibration tokens, and a small pull
towards w. It is the exact counterpart of what SparseGPT's sweep approximates (arXiv:2301.00774,
section 3.1, "exact reconstruction", eq. 2). All rows are solved together by conjugate gradients
under the mask (Saad, Iterative Methods for Sparse Linear Systems, algorithm 9.1): its cost does not
grow with the number of distinct masks. The preconditioner is M H⁻¹ M, where M sets to zero what
the mask does. One inverse serves all rows. It takes about a third of the steps that H's diagonal
would; each step has two products where that has one.

It is the problem that OPTIMA (arXiv:2512.13886) states as a quadratic program for each row, with
the Hessian that all rows share and equality constraints at the pruned places. OPTIMA solves it by
a first-order primal-dual method to a tolerance of 1e-2. docs/reference/pruning.md compares both.

Deviations: λ pulls towards w and not towards 0; the solution is iterative, to a relative residual
of `tolerance` or `iterations` steps, whichever comes first; what was reached is recorded.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prunegrid.pruning.column_sweep import dampened
from prunegrid.pruning.input_stats import InputStats, is_finite

CITE = ("frantar2023sparsegpt",)
NEEDS = "hessian"
OPERATIONS = 25_000.0  # a parameter, for estimates of time
SETTINGS: dict[str, Any] = {"dampening": 0.01, "iterations": 50, "tolerance": 1.0e-3}
MEANINGS = {
    "dampening": "The share of H's mean diagonal that pulls towards the old weights.",
    "iterations": "The most iterations of conjugate gradients.",
    "tolerance": "The relative residual at which they end.",
}


def update_linear(
    weight: Tensor,
    kept: Tensor,
    stats: InputStats,
    *,
    dampening: float = 0.01,
    iterations: int = 50,
    tolerance: float = 1e-3,
) -> tuple[Tensor, dict[str, Any]]:
    """Return the reconstructed weight [d_out, d_in] and {dampening, iterations, residual}.

    Args:
        dampening: λ as a fraction of the mean diagonal of H.
        iterations: the most steps that are taken.
        tolerance: of the residual's norm over all rows, relative to where it started.
    """
    hessian = dampened(stats.hessian.clone(), dampening)
    dense, mask = weight.float(), kept.float()
    solution = dense * mask
    # Minus half the gradient, where the mask lets it act: what is left to be made up for.
    residual = ((dense - solution) @ hessian).mul_(mask)
    solution, facts = conjugate_gradients(
        solution, residual, hessian, mask, iterations=iterations, tolerance=tolerance
    )
    return (solution * mask).to(weight.dtype), {"dampening": dampening} | facts


def conjugate_gradients(
    solution: Tensor,
    residual: Tensor,
    hessian: Tensor,
    mask: Tensor,
    *,
    iterations: int,
    tolerance: float,
) -> tuple[Tensor, dict[str, Any]]:
    """Return (the solution of (s H)∘M = b∘M for every row, {iterations, residual}).

    Args:
        solution: where it starts, float32 [d_out, d_in], zero where the mask is.
        residual: b - s H there, under the mask.
        hessian: symmetric and positive definite, float32 [d_in, d_in].
        mask: 1.0 = kept, 0.0 = pruned.
    """
    inverse = _inverse(hessian)
    start = residual.norm()
    reached, taken = 1.0, 0
    solution, residual = solution.clone(), residual.clone()
    scaled = (residual @ inverse).mul_(mask)
    direction, work = scaled.clone(), torch.empty_like(scaled)
    # In place: fresh memory for each term would cost more than its arithmetic.
    curved = torch.empty_like(scaled)
    energy = torch.mul(residual, scaled, out=work).sum(1, keepdim=True)
    while start > 0 and reached > tolerance and taken < iterations:
        torch.mm(direction, hessian, out=curved).mul_(mask)
        # A row that is solved already stays: 0/0 is 0 here.
        step = _ratio(energy, torch.mul(direction, curved, out=work).sum(1, keepdim=True))
        solution += torch.mul(step, direction, out=work)
        residual -= curved.mul_(step)
        torch.mm(residual, inverse, out=scaled).mul_(mask)
        before, energy = energy, torch.mul(residual, scaled, out=work).sum(1, keepdim=True)
        direction.mul_(_ratio(energy, before)).add_(scaled)
        reached, taken = float(residual.norm() / start), taken + 1
    return solution, {"iterations": taken, "residual": reached if taken else 0.0}


def _inverse(hessian: Tensor) -> Tensor:
    """Return H⁻¹, or that of its diagonal where rounding leaves H without a Cholesky factor."""
    lower, failed = torch.linalg.cholesky_ex(hessian)
    inverse = None if int(failed) else torch.cholesky_inverse(lower)
    usable = inverse is not None and is_finite(inverse) and (inverse.diagonal() > 0).all()
    return inverse if usable else torch.diag(1 / hessian.diagonal())


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, above / below, torch.zeros_like(below))
