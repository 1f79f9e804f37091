"""RIA, relative importance and activations (Zhang et al., ICLR 2024, "Plug-and-Play", eq. 4-5).

score = (|W_ij| / Σ_j |W_ij| + |W_ij| / Σ_i |W_ij|) · ‖X_j‖₂^a: a weight counts by its share of its
row (output neuron) and of its column (input channel), so that no channel loses all of its weights.
`exponent` is the paper's a = 0.5. Unstructured within the whole matrix, as the authors' code does.

Deviations: the paper's channel permutation before N:M is not part of the score and not done; the
norm is taken over the mean square of tokens (a common factor); counts are exact; a weight that is
zero already goes first.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunegrid.pruning.input_stats import InputStats
from prunegrid.pruning.patterns import Pattern, prune_lowest

CITE = ("zhang2024plug",)
NEEDS = "input_norms"
SETTINGS: dict[str, Any] = {"exponent": 0.5}
MEANINGS = {
    "exponent": "The power of the inputs' norms.",
}
SCOPE = "layer"
DRAWS = False
UPDATES = False

# Rows and columns may hold nothing but zeros, whose shares are then zero.
TINY = 1e-30


def prune_linear(
    weight: Tensor, stats: InputStats, pattern: Pattern, *, exponent: float
) -> tuple[Tensor, dict[str, Any]]:
    """Return the weight [d_out, d_in] without its lowest scores, and no facts.

    Args:
        exponent: of the inputs' norms.
    """
    size = weight.abs().float()
    share = size / size.sum(1, keepdim=True).clamp(min=TINY)
    share += size / size.sum(0, keepdim=True).clamp(min=TINY)
    share *= stats.input_norms.to(weight.device).sqrt() ** exponent
    return prune_lowest(weight, share, pattern), {}
