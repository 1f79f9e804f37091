"""STADE (Coello de Portugal Mecke et al. 2025, arXiv:2503.22451): score = |W_ij| · std(x_j).

What is pruned takes a constant W_ij E[x_j] from the output, for which a bias can make up: with
`compensate` b_i gains Σ_j E[x_j] W_ij over the pruned j, and what is left of the error of a weight
is W_ij² Var(x_j). Unstructured within one output row. With an update the bias makes up for the mean
of what the update leaves.

Deviations: the authors' code adds biases to every linear, which plain transformers then does not
load; here linears that have a bias are compensated, and others only by `add_biases`, where the
model's config can hold biases. Matrices of fused experts get none. Counts are exact; a weight that
is zero already goes first.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunegrid.pruning.input_stats import InputStats
from prunegrid.pruning.patterns import Pattern, prune_by_rows, zeros_first

CITE = ("mecke2025stade",)
NEEDS = "input_moments"
SETTINGS: dict[str, Any] = {"compensate": True, "add_biases": False}
MEANINGS = {
    "compensate": "Whether the biases that exist make up for the mean of what is pruned.",
    "add_biases": "Whether linears without a bias get one, where the model's config can hold it.",
}
SCOPE = "row"
DRAWS = False
UPDATES = False


def prune_linear(
    weight: Tensor, stats: InputStats, pattern: Pattern, **_of_biases: bool
) -> tuple[Tensor, dict[str, Any]]:
    """Return the weight [d_out, d_in] without its lowest scores, and no facts."""
    deviations = stats.input_variances.to(weight.device).sqrt()

    def score(rows: Tensor) -> Tensor:
        return zeros_first(rows, rows.abs().float() * deviations)

    return prune_by_rows(weight, score, pattern), {}


def bias_shift(
    removed: Tensor, stats: InputStats, *, compensate: bool, **_add_biases: bool
) -> Tensor | None:
    """Return the mean that the output loses, float32 [d_out]; None where nothing makes up for it.

    Args:
        removed: the weight before minus the weight after, float32 [d_out, d_in].
    """
    return removed @ stats.input_means.to(removed.device) if compensate else None
