"""The error of a pruned linear's output, by the statistics of its input."""

from __future__ import annotations

import torch
from torch import Tensor

from prunegrid.pruning.input_stats import InputStats


def output_error(
    before: Tensor, after: Tensor, stats: InputStats, *, shifted: bool = False
) -> float | None:
    """Return the squared error of a linear's output, as a share of the output's own square.

    By the Hessian it is that of the calibration's tokens, ‖(W' - W) X‖² / ‖W X‖²; by mean squares
    alone it is so for uncorrelated inputs. None where no token reached the linear, or it gave 0.

    Args:
        before, after: its weight [d_out, d_in], W and W'.
        shifted: whether its bias makes up for the mean of the error.
    """
    if stats.tokens == 0:
        return None
    hessian, norms = stats.hessian, stats.input_norms
    sizes = []
    for weight in (after.float() - before.float(), before.float()):
        beside_mean = shifted and not sizes
        squares = stats.input_variances if beside_mean else norms
        outputs = weight * squares if hessian is None else weight @ hessian
        sizes.append(float((outputs * weight).sum(dtype=torch.float64)))
        if beside_mean and hessian is not None:
            sizes[0] -= 2 * float((weight @ stats.input_means).double().square().sum())
    # Digits that are rounding's would make the report differ from machine to machine.
    return float(f"{max(sizes[0], 0.0) / sizes[1]:.4g}") if sizes[1] > 0 else None
