"""SparseGPT (Frantar & Alistarh, ICML 2023, arXiv:2301.00774), algorithm 1.

With H = (2/n) XᵀX + λI and U the upper Cholesky factor of H⁻¹ (H⁻¹ = UᵀU), columns are visited from
left to right. The score of w_ij is w_ij² / U_jj² (eq. 5 in its Cholesky form); a pruned weight's
error (w_ij - 0) / U_jj is spread over the columns to its right by row j of U. Unstructured masks
are chosen per block of `mask_blocksize` columns over all rows; N:M masks group by group, from the
weights as updated so far. λ = dampening · mean(diag H). Inputs that were always zero ("dead") get
H_jj = 1 and their weights go. Weights that are zero already may come back by an update.

Deviations from the reference code: counts are exact (it drops one weight more a block); blocks'
counts add up to exactly floor(sparsity · n) for the layer; where M does not divide `blocksize`, the
block is shortened so that no group is cut; U comes from one Cholesky factorisation of the flipped H
and a triangular inverse, not from two factorisations (equal up to rounding); work goes through Wᵀ
in strips of 32 columns; when float32 fails, float64 is tried, then ten times the dampening, and so
on: each is logged and recorded.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

from prunegrid.errors import PrunegridError
from prunegrid.patterns import NM, Pattern, lowest, lowest_of_group

if TYPE_CHECKING:
    from torch import Tensor

    from prunegrid.input_stats import InputStats

log = logging.getLogger(__name__)

NEEDS = "hessian"
SETTINGS: dict[str, Any] = {"dampening": 0.01, "blocksize": 128, "mask_blocksize": None}
SCOPE = "layer"
DRAWS = False
UPDATES = True

# Columns whose errors are spread at once inside a block: small enough to stay in the caches.
STRIP = 32
LARGEST_DAMPENING = 10.0


def prune_linear(
    weight: Tensor,
    stats: InputStats,
    pattern: Pattern,
    *,
    dampening: float = 0.01,
    blocksize: int = 128,
    mask_blocksize: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Return the pruned and updated weight [d_out, d_in], and what the factorisation took.

    Args:
        stats: its `hessian` is float32 [d_in, d_in].
        dampening: λ as a fraction of the mean diagonal of H.
        blocksize: columns an update block.
        mask_blocksize: columns a mask block (unstructured only); None is `blocksize`.

    Raises:
        PrunegridError: a setting is out of range, or no dampening makes H positive definite.
    """
    if dampening < 0 or blocksize < 1 or (mask_blocksize is not None and mask_blocksize < 1):
        raise PrunegridError(
            f"dampening {dampening}, blocksize {blocksize}, mask_blocksize {mask_blocksize}",
            expected="dampening ≥ 0 and blocks of at least one column",
        )
    factor, facts = stats.once(("factor", dampening), lambda: _factor(stats.hessian, dampening))
    columns = weight.t().float().contiguous()
    columns[stats.hessian.diagonal() == 0] = 0
    mask_blocksize = mask_blocksize or blocksize
    if isinstance(pattern, NM):
        blocksize = mask_blocksize = max(blocksize // pattern.group, 1) * pattern.group
    _solve(columns, factor, pattern, blocksize, mask_blocksize)
    return columns.t().to(weight.dtype).contiguous(), dict(facts)


def _solve(
    columns: Tensor, factor: Tensor, pattern: Pattern, blocksize: int, mask_blocksize: int
) -> None:
    """Prune Wᵀ [d_in, d_out] in place.

    Args:
        factor: U, float32 [d_in, d_in], upper triangular.
    """
    width = columns.shape[0]
    gone = torch.zeros(columns.shape, dtype=torch.bool, device=columns.device)
    diagonal = factor.diagonal()
    # The reciprocals as numbers: one transfer a layer, not one a column.
    scale = (1 / diagonal).tolist()
    errors = torch.zeros_like(columns[:blocksize])
    outer = mask_blocksize if blocksize % mask_blocksize else blocksize
    nm = isinstance(pattern, NM)
    choice = pattern.group if nm else mask_blocksize
    for start, end in _cuts(0, width, blocksize, outer):
        for first, last in _cuts(start, end, _strip(pattern), mask_blocksize):
            for column in range(first, last):
                if column % choice == 0:
                    part = slice(column, min(column + choice, width))
                    gone[part] = _choose(columns[part], diagonal[part], pattern, part)
                values, error = columns[column], errors[column - start]
                torch.mul(values, gone[column], out=error).mul_(scale[column])
                values.masked_fill_(gone[column], 0)
                columns[column + 1 : last].addr_(factor[column, column + 1 : last], error, alpha=-1)
            columns[last:end].addmm_(
                factor[first:last, last:end].t(), errors[first - start : last - start], alpha=-1
            )
        columns[end:].addmm_(factor[start:end, end:].t(), errors[: end - start], alpha=-1)


def _strip(pattern: Pattern) -> int:
    if isinstance(pattern, NM):
        return max(STRIP // pattern.group, 1) * pattern.group
    return STRIP


def _cuts(start: int, end: int, step: int, mask_step: int) -> list[tuple[int, int]]:
    """Return the parts of start…end, cut every `step` columns and wherever a mask block begins."""
    inside = {*range(start, end, step), *range(-(-start // mask_step) * mask_step, end, mask_step)}
    edges = [*sorted(inside), end]
    return list(zip(edges[:-1], edges[1:], strict=True))


def _choose(columns: Tensor, diagonal: Tensor, pattern: Pattern, part: slice) -> Tensor:
    """Return which weights of Wᵀ [columns, d_out] go, by |w| / U_jj (the order of w² / U_jj²)."""
    scores = (columns / diagonal[:, None]).abs()
    if isinstance(pattern, NM):
        return torch.stack(lowest_of_group(scores.unbind(0), pattern.group - pattern.keep))
    scores = scores.t().contiguous()
    rows = scores.shape[0]
    if pattern.scope == "row":
        return lowest(scores, pattern.zeros_between(part.start, part.stop)).t()
    count = pattern.zeros_between(part.start, part.stop, rows)
    return lowest(scores.reshape(1, -1), count).reshape(scores.shape).t()


def _factor(hessian: Tensor, dampening: float) -> tuple[Tensor, dict[str, Any]]:
    """Return U (float32, upper, H⁻¹ = UᵀU) and {dampening, precision, fallbacks, dead_inputs}.

    Raises:
        PrunegridError: H is not positive definite with any dampening that is tried.
    """
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
    damped = hessian.to(precision, copy=True)
    diagonal = damped.diagonal()
    diagonal[dead] = 1
    diagonal += dampening * diagonal.mean()
    # H = A Aᵀ with A upper is the flipped Cholesky of the flipped H; then U = A⁻¹.
    lower, info = torch.linalg.cholesky_ex(damped.flip(0, 1))
    if int(info) != 0:
        return None
    identity = torch.eye(len(dead), dtype=precision, device=hessian.device)
    inverse = torch.linalg.solve_triangular(lower, identity, upper=False)
    factor = inverse.flip(0, 1).float().contiguous()
    usable = torch.isfinite(factor).all() and (factor.diagonal() > 0).all()
    return factor if usable else None
