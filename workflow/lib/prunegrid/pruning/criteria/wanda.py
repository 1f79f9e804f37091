"""Wanda (Sun et al., ICLR 2024, arXiv:2306.11695), eq. 1: score = |W_ij| · ‖X_j‖₂.

The norm of input column j runs over all calibration tokens; unstructured pruning compares the
weights of one output row; the weights that stay are not changed.

Deviations from the reference code: the norm is taken over the mean square of tokens and not of
samples (a common factor, so the same order); a weight that is zero already goes first, which
matters only beside dead inputs.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunegrid.pruning.input_stats import InputStats
from prunegrid.pruning.patterns import Pattern, prune_by_rows, zeros_first

CITE = ("sun2024simple",)
NEEDS = "input_norms"
SETTINGS: dict[str, Any] = {}
SCOPE = "row"
DRAWS = False
UPDATES = False


def prune_linear(
    weight: Tensor, stats: InputStats, pattern: Pattern
) -> tuple[Tensor, dict[str, Any]]:
    """Return the weight [d_out, d_in] without its lowest scores, and no facts."""
    norms = stats.input_norms.to(weight.device).sqrt()

    def score(rows: Tensor) -> Tensor:
        return zeros_first(rows, rows.abs().float() * norms)

    return prune_by_rows(weight, score, pattern), {}
