"""The optimal brain surgeon's column sweep, and the factor of the Hessian that it needs.

Of SparseGPT (Frantar & Alistarh, ICML 2023, arXiv:2301.00774), algorithm 1: with U the upper
Cholesky factor of H⁻¹ (H⁻¹ = UᵀU), columns are visited from left to right; a pruned weight's error
(w_ij - 0) / U_jj is spread over the columns to its right by row j of U. Which weights go is asked
group by group of columns, from the weights as updated so far: SparseGPT chooses then, an update
after another criterion's mask answers with that mask.

Deviations from the reference code: U comes from one Cholesky factorisation of the flipped H and a
triangular inverse, not from two factorisations (equal up to rounding); work goes through Wᵀ in
strips of 32 columns; when float32 fails, float64 is tried, then ten times the dampening, and so on:
each is logged and recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from prunegrid.errors import PrunegridError
from prunegrid.input_stats import is_finite

if TYPE_CHECKING:
    from prunegrid.input_stats import InputStats

log = logging.getLogger(__name__)

# Columns whose errors are spread at once inside a block: small enough to stay in the caches.
STRIP = 32
# A triangle so small is inverted as it is.
LEAF = 192
LARGEST_DAMPENING = 10.0


def sweep(
    columns: Tensor,
    factor: Tensor,
    choose: Callable[[Tensor, slice], Tensor],
    *,
    choice: int,
    blocksize: int,
    strip: int = STRIP,
) -> None:
    """Prune and update Wᵀ [d_in, d_out] in place.

    Args:
        columns: Wᵀ, float32 [d_in, d_out], contiguous.
        factor: U, float32 [d_in, d_in], upper triangular.
        choose: given some columns as they are now and their places, which weights go, bool.
        choice: columns that are chosen together.
        blocksize: columns whose errors are spread to the right at once.
        strip: columns whose errors are spread at once inside a block.
    """
    width, diagonal = columns.shape[0], factor.diagonal()
    errors = torch.zeros_like(columns[:blocksize])
    gone, chosen_at = errors, 0
    # Columns that are chosen together must all have the errors of those before them.
    outer = choice if blocksize % choice else blocksize
    inner = choice if strip % choice else strip
    for start, end in _cuts(0, width, blocksize, outer):
        # By its own diagonal each row has a 1 there: an error takes its column to an exact 0.
        rows = factor[start:end, start:] / diagonal[start:end, None]
        for first, last in _cuts(start, end, strip, inner):
            for column in range(first, last):
                if column % choice == 0:
                    part = slice(column, min(column + choice, width))
                    gone, chosen_at = choose(columns[part], part).to(columns.dtype), column
                error, row = errors[column - start], rows[column - start]
                torch.mul(columns[column], gone[column - chosen_at], out=error)
                columns[column:last].addr_(row[column - start : last - start], error, alpha=-1)
            columns[last:end].addmm_(
                rows[first - start : last - start, last - start : end - start].t(),
                errors[first - start : last - start],
                alpha=-1,
            )
        columns[end:].addmm_(rows[:, end - start :].t(), errors[: end - start], alpha=-1)


def _cuts(start: int, end: int, step: int, mask_step: int) -> list[tuple[int, int]]:
    """Return the parts of start…end, cut every `step` columns and wherever a mask block begins."""
    inside = {*range(start, end, step), *range(-(-start // mask_step) * mask_step, end, mask_step)}
    edges = [*sorted(inside), end]
    return list(zip(edges[:-1], edges[1:], strict=True))


def factor_of(stats: InputStats, dampening: float) -> tuple[Tensor, dict[str, Any]]:
    """Return U (float32, upper, H⁻¹ = UᵀU) and {dampening, precision, fallbacks, dead_inputs}.

    It is computed once for linears that share their input. λ = dampening · mean(diag H) is added
    to H's diagonal; inputs that were always zero ("dead") get H_jj = 1.

    Raises:
        PrunegridError: H is not positive definite with any dampening that is tried.
    """
    return stats.once(("factor", dampening), lambda: _factor(stats.hessian, dampening))


def _factor(hessian: Tensor, dampening: float) -> tuple[Tensor, dict[str, Any]]:
    """Return what `factor_of` does."""
    dead = hessian.diagonal() == 0
    damped, fallbacks = dampening, []
    while damped <= LARGEST_DAMPENING:
        for precision in (torch.float32, torch.float64):
            factor = _try_factor(hessian, dead, damped, precision)
            name = str(precision).removeprefix("torch.")
            if factor is not None:
                return factor, {
                    "dampening": damped,
                    "precision": name,
                    "fallbacks": fallbacks,
                    "dead_inputs": int(dead.sum()),
                }
            fallbacks.append(f"{name} Cholesky failed with dampening {damped:g}")
            log.warning("%s", fallbacks[-1])
        damped = max(damped * 10, 1e-4)
    raise PrunegridError(
        f"the Hessian [{len(dead)}, {len(dead)}] is not positive definite with any dampening up to "
        f"{LARGEST_DAMPENING:g}",
        remedy="use more calibration samples, or check the model's activations",
    )


def _try_factor(
    hessian: Tensor, dead: Tensor, dampening: float, precision: torch.dtype
) -> Tensor | None:
    """Return U in float32, or None where the factorisation fails."""
    # H = A Aᵀ with A upper is the flipped Cholesky of the flipped H; then U = A⁻¹.
    damped = dampened(hessian.flip(0, 1).to(precision), dead.flip(0), dampening)
    lower, info = torch.linalg.cholesky_ex(damped)
    del damped
    if int(info) != 0:
        return None
    factor = inverse_of_lower(lower).flip(0, 1).float()
    usable = is_finite(factor) and (factor.diagonal() > 0).all()
    return factor if usable else None


def inverse_of_lower(lower: Tensor) -> Tensor:
    """Return the inverse of a lower triangular matrix, by halves.

    A third of the work of solving for the identity, and nearly all of it matrix products.
    """
    inverse = torch.zeros_like(lower)
    _invert_lower(lower, inverse)
    return inverse


def _invert_lower(lower: Tensor, inverse: Tensor) -> None:
    """Write the inverse of `lower` into `inverse`, whose upper triangle is left as it is."""
    width = len(lower)
    if width <= LEAF:
        identity = torch.eye(width, dtype=lower.dtype, device=lower.device)
        inverse.copy_(torch.linalg.solve_triangular(lower, identity, upper=False))
        return
    half = width // 2
    top, bottom = inverse[:half, :half], inverse[half:, half:]
    _invert_lower(lower[:half, :half], top)
    _invert_lower(lower[half:, half:], bottom)
    corner = inverse[half:, :half]
    # [[A, 0], [B, C]]⁻¹ = [[A⁻¹, 0], [-C⁻¹ B A⁻¹, C⁻¹]]; of a triangular factor the zero
    # quarter is left out.
    left, quarter, middle = lower[half:, :half], half // 2, (width - half) // 2
    product = torch.empty_like(corner, memory_format=torch.contiguous_format)
    torch.mm(bottom[:middle, :middle], left[:middle], out=product[:middle])
    torch.mm(bottom[middle:], left, out=product[middle:])
    corner[:, :quarter] = product @ top[:, :quarter]
    corner[:, quarter:] = product[:, quarter:] @ top[quarter:, quarter:]
    corner.neg_()


def dampened(hessian: Tensor, dead: Tensor, dampening: float) -> Tensor:
    """Return H with dead inputs at 1 and λ added to its diagonal, in place."""
    diagonal = hessian.diagonal()
    diagonal[dead] = 1
    diagonal += dampening * diagonal.mean()
    return hessian
