"""SparseGPT's update (arXiv:2301.00774, algorithm 1) under a mask that another criterion chose.

Deviations from the paper: the mask is given, and not chosen while the columns are visited; and
those of `prunegrid.pruning.column_sweep`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunegrid.pruning.column_sweep import factor_of, sweep
from prunegrid.pruning.input_stats import InputStats

CITE = ("frantar2023sparsegpt",)
NEEDS = "hessian"
SETTINGS: dict[str, Any] = {"dampening": 0.01, "blocksize": 128}
MEANINGS = {
    "dampening": "The share of H's mean diagonal that is added to the diagonal.",
    "blocksize": "Columns that are visited before the others are updated.",
}


def update_linear(
    weight: Tensor,
    kept: Tensor,
    stats: InputStats,
    *,
    dampening: float = 0.01,
    blocksize: int = 128,
) -> tuple[Tensor, dict[str, Any]]:
    """Return the updated weight [d_out, d_in], and facts of the factorisation.

    Args:
        dampening: λ as a fraction of the mean diagonal of H.
        blocksize: columns whose errors are spread to the right at once.

    Raises:
        PrunegridError: no dampening makes H positive definite.
    """
    factor, facts = factor_of(stats, dampening)
    columns, gone = weight.t().float().contiguous(), ~kept.t()
    sweep(columns, factor, lambda part, place: gone[place], choice=blocksize, blocksize=blocksize)
    return columns.t().to(weight.dtype).contiguous(), dict(facts)
