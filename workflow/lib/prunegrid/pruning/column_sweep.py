"""The optimal brain surgeon's column sweep, and the factor of the Hessian that it needs.

SparseGPT (Frantar & Alistarh, ICML 2023, arXiv:2301.00774), algorithm 1, visits columns from left
to right; a pruned weight's error (w_ij - 0) / U_jj is spread over the columns to its right by row j
of U, the upper Cholesky factor of H⁻¹ (H⁻¹ = UᵀU). The weights that go are chosen group by group of
columns, from the weights as updated so far, or given as another criterion's mask.

Here no inverse is formed. With H = A Aᵀ, A upper triangular, U is A⁻¹, and the error that a row's
losses d = w - ŵ make is ‖dA‖² = Σ_j (Σ_{k≤j} d_k A_kj)². So when the columns before a block b are
done, those of b are at their best where d_b A_bb + Σ_{k<b} d_k A_kb = 0: they become
w_b + (Σ_{k<b} d_k A_kb) U_bb, which is what the errors of all columns before b add up to; and U_bb
is the inverse of A_bb alone. Inside a block errors are spread as in the paper.

Deviations from the reference code, all equal up to rounding: A comes from one Cholesky
factorisation of the flipped H, where it has two and an inverse; a block takes all earlier losses at
once, where it hands each block's errors on to every later column; a block is halved down to 16
columns. When float32 fails, float64 is tried, then ten times the dampening, and so on: each is
logged and recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunegrid.common.errors import PrunegridError
from prunegrid.pruning.input_stats import InputStats, is_finite

log = logging.getLogger(__name__)

# So few columns are visited one by one; more are halved.
LEAF = 16
LARGEST_DAMPENING = 10.0


def sweep(
    columns: Tensor,
    factor: Tensor,
    choose: Callable[[Tensor, slice], Tensor],
    *,
    choice: int,
    blocksize: int,
) -> None:
    """Prune and update Wᵀ [d_in, d_out] in place.

    Args:
        columns: Wᵀ, float32 [d_in, d_out], contiguous.
        factor: A, float32 [d_in, d_in], upper triangular.
        choose: returns which weights go, bool, of some columns as they are now and their places.
        choice: columns that are chosen together.
        blocksize: columns that take the losses of those before them at once; rounded down to a
            multiple of `choice`, and at least that.
    """
    width = len(columns)
    # Columns that are chosen together must all have the losses of those before them.
    size = max(blocksize // choice, 1) * choice
    # Made once: malloc would keep what is made for each block, and not give it back.
    lost, sums, errors = (torch.empty_like(columns[:n]) for n in (width, size, size))
    for start in range(0, width, size):
        end = min(start + size, width)
        block, before = columns[start:end], lost[start:end]
        before.copy_(block)
        inverse = _inverse_of_upper(factor[start:end, start:end])
        if start:
            earlier = torch.mm(factor[:start, start:end].t(), lost[:start], out=sums[: end - start])
            block.addmm_(inverse.t(), earlier)
        _Block(block, inverse, errors, choose, choice, start).prune(0, len(block))
        before -= block


class _Block:
    """Prunes and updates a block's columns [b, d_out] in place; `start` is the first of them."""

    def __init__(
        self,
        columns: Tensor,
        inverse: Tensor,  # U_bb
        errors: Tensor,
        choose: Callable[[Tensor, slice], Tensor],
        choice: int,
        start: int,
    ) -> None:
        # By its own diagonal each row has a 1 there: an error takes its column to an exact 0.
        self._rows = inverse / inverse.diagonal()[:, None]
        self._columns, self._errors, self._gone = columns, errors, errors
        self._choose, self._choice, self._start = choose, choice, start

    # Methods, and not closures: a closure that calls itself is a cycle, which would keep a linear's
    # Hessian factor in memory until some garbage collection.
    def prune(self, first: int, last: int) -> None:
        """Prune the columns first … last: the left half's errors are spread over the right one."""
        if last - first <= LEAF:
            self._leaf(first, last)
            return
        middle = first + _half(last - first, self._choice)
        self.prune(first, middle)
        spread = self._rows[first:middle, middle:last].t()
        self._columns[middle:last].addmm_(spread, self._errors[first:middle], alpha=-1)
        self.prune(middle, last)

    def _leaf(self, first: int, last: int) -> None:
        columns = self._columns
        for column in range(first, last):
            if column % self._choice == 0:
                end = min(column + self._choice, len(columns))
                place = slice(self._start + column, self._start + end)
                self._gone = self._choose(columns[column:end], place).to(columns.dtype)
            error = self._errors[column]
            torch.mul(columns[column], self._gone[column % self._choice], out=error)
            columns[column:last].addr_(self._rows[column, column:last], error, alpha=-1)


def _half(width: int, choice: int) -> int:
    """Return about half of a width, at a place that parts no columns that are chosen together."""
    half = (width + 1) // 2
    return half if width <= choice else -(-half // choice) * choice


def _inverse_of_upper(block: Tensor) -> Tensor:
    identity = torch.eye(len(block), dtype=block.dtype, device=block.device)
    return torch.linalg.solve_triangular(block, identity, upper=True)


def factor_of(stats: InputStats, dampening: float) -> tuple[Tensor, dict[str, Any]]:
    """Return A (float32, upper, H = A Aᵀ) and {dampening, precision, fallbacks, dead_inputs}.

    It is computed once for linears that share their input. λ = dampening · mean(diag H) is added
    to H's diagonal; inputs that were always zero ("dead") get H_jj = 1.

    Raises:
        PrunegridError: H is not positive definite with any dampening that is tried.
    """
    return stats.once(("factor", dampening), lambda: _factor(stats.hessian, dampening))


def _factor(hessian: Tensor, dampening: float) -> tuple[Tensor, dict[str, Any]]:
    factor, facts = with_more_dampening(
        lambda damped, precision: _try_factor(hessian, damped, precision),
        dampening,
        (torch.float32, torch.float64),
        len(hessian),
    )
    return factor, {**facts, "dead_inputs": int((hessian.diagonal() == 0).sum())}


def with_more_dampening(
    attempt: Callable[[float, torch.dtype], Tensor | None],
    dampening: float,
    precisions: Sequence[torch.dtype],
    width: int,
) -> tuple[Tensor, dict[str, Any]]:
    """Return a factorisation, and the {dampening, precision, fallbacks} that it took.

    Each precision is tried, then ten times the dampening, and so on; each failure is logged.

    Args:
        attempt: returns the factorisation of a dampening and a precision; None where H is not
            positive definite.
        dampening: the first λ, as a fraction of the mean diagonal of H.
        width: d_in, for the error.

    Raises:
        PrunegridError: nothing that is tried makes H positive definite.
    """
    fallbacks: list[str] = []
    while dampening <= LARGEST_DAMPENING:
        for precision in precisions:
            result, name = attempt(dampening, precision), str(precision).removeprefix("torch.")
            if result is not None:
                return result, {"dampening": dampening, "precision": name, "fallbacks": fallbacks}
            fallbacks.append(f"{name} Cholesky failed with dampening {dampening:g}")
            log.warning("%s", fallbacks[-1])
        dampening = max(dampening * 10, 1e-4)
    raise PrunegridError(
        f"the Hessian [{width}, {width}] is not positive definite with any dampening up to "
        f"{LARGEST_DAMPENING:g}",
        remedy="use more calibration samples, or check the model's activations",
    )


def _try_factor(hessian: Tensor, dampening: float, precision: torch.dtype) -> Tensor | None:
    """Return A in float32, or None where the factorisation fails."""
    # H = A Aᵀ with A upper is the flipped Cholesky factor of the flipped H.
    damped = dampened(_flipped(hessian).to(precision), dampening)
    lower, info = torch.linalg.cholesky_ex(damped)
    del damped
    if int(info) != 0:
        return None
    factor = _flipped(lower).float()
    usable = is_finite(factor) and (factor.diagonal() > 0).all()
    return factor if usable else None


def _flipped(matrix: Tensor) -> Tensor:
    """Return a copy with both axes reversed; on a CPU numpy makes it in half of the time."""
    if matrix.is_cpu:
        return torch.from_numpy(np.ascontiguousarray(matrix.numpy()[::-1, ::-1]))
    return matrix.flip(0, 1)


def dampened(hessian: Tensor, dampening: float) -> Tensor:
    """Return H with λ added to its diagonal, and inputs that were always zero at 1, in place."""
    diagonal = hessian.diagonal()
    diagonal[diagonal == 0] = 1
    diagonal += dampening * diagonal.mean()
    return hessian
