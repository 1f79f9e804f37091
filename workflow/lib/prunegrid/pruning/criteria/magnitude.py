"""Magnitude pruning (Han et al., NeurIPS 2015, arXiv:1506.02626): score = |W_ij|.

Unstructured within the whole matrix by default, as the reference drivers of Wanda and SparseGPT do.

Deviations from Wanda's driver: the count is exact (it prunes with `<= threshold`, one weight too
many and every tie beside it); sparsity 1 is valid.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunegrid.pruning.input_stats import InputStats
from prunegrid.pruning.patterns import Pattern, prune_by_rows

CITE = ("han2015learning",)
NEEDS = "nothing"
SETTINGS: dict[str, Any] = {}
SCOPE = "layer"
SCOPES = ("row", "layer", "model")
DRAWS = False
UPDATES = False


def scores(weight: Tensor) -> Tensor:
    """Return |W|, float32 [d_out, d_in]; for all linears of a model it ranks scope "model"."""
    return weight.abs().float()


def prune_linear(
    weight: Tensor, stats: InputStats | None, pattern: Pattern
) -> tuple[Tensor, dict[str, Any]]:
    """Return the weight [d_out, d_in] without its smallest entries, and no facts."""
    # Zeros have the lowest score already.
    return prune_by_rows(weight, scores, pattern), {}
