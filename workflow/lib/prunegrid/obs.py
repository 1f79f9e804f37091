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

if TYPE_CHECKING:
    from prunegrid.input_stats import InputStats

log = logging.getLogger(__name__)

# Columns whose errors are spread at once inside a block: small enough to stay in the caches.
STRIP = 32
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
    width = columns.shape[0]
    gone = torch.zeros(columns.shape, dtype=torch.bool, device=columns.device)
    # The reciprocals as numbers: one transfer a layer, not one a column.
    scale = (1 / factor.diagonal()).tolist()
    errors = torch.zeros_like(columns[:blocksize])
    # Columns that are chosen together must all have the errors of those before them.
    outer = choice if blocksize % choice else blocksize
    inner = choice if strip % choice else strip
    for start, end in _cuts(0, width, blocksize, outer):
        for first, last in _cuts(start, end, strip, inner):
            for column in range(first, last):
                if column % choice == 0:
                    part = slice(column, min(column + choice, width))
                    gone[part] = choose(columns[part], part)
                values, error = columns[column], errors[column - start]
                torch.mul(values, gone[column], out=error).mul_(scale[column])
                values.masked_fill_(gone[column], 0)
                columns[column + 1 : last].addr_(factor[column, column + 1 : last], error, alpha=-1)
            columns[last:end].addmm_(
                factor[first:last, last:end].t(), errors[first - start : last - start], alpha=-1
            )
        columns[end:].addmm_(factor[start:end, end:].t(), errors[: end - start], alpha=-1)


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
    damped = dampened(hessian.to(precision, copy=True), dead, dampening)
    # H = A Aᵀ with A upper is the flipped Cholesky of the flipped H; then U = A⁻¹.
    lower, info = torch.linalg.cholesky_ex(damped.flip(0, 1))
    if int(info) != 0:
        return None
    identity = torch.eye(len(dead), dtype=precision, device=hessian.device)
    inverse = torch.linalg.solve_triangular(lower, identity, upper=False)
    factor = inverse.flip(0, 1).float().contiguous()
    usable = torch.isfinite(factor).all() and (factor.diagonal() > 0).all()
    return factor if usable else None


def dampened(hessian: Tensor, dead: Tensor, dampening: float) -> Tensor:
    """Return H with dead inputs at 1 and λ added to its diagonal, in place."""
    diagonal = hessian.diagonal()
    diagonal[dead] = 1
    diagonal += dampening * diagonal.mean()
    return hessian
