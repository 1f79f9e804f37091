"""Weights by the norm of their inputs: a unit's score is the sum of |w_ij|·‖x_j‖ over its weights.

The score of a weight is Wanda's (Sun et al. 2024, arXiv:2306.11695, eq. 1), with
‖x_j‖ = sqrt(mean x_j²) over the calibration tokens; to sum it over a unit is what Wanda-sp does
(the baseline that FLAP, An et al. 2024, arXiv:2312.11983, compares with).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

FITS = ("causal-lm", "masked-lm", "encoder")
CITE = ("sun2024simple", "an2024fluctuation")
UNITS = ("mlp", "heads", "blocks")
NEEDS = "input_norms"
SETTINGS: dict[str, Any] = {}
DRAWS = False


def importance(weight: Tensor, seen: Tensor) -> Tensor:
    """Return |w_ij| · sqrt(seen_j), float32 [d_out, d_in].

    Args:
        seen: mean x_j² over tokens, float32 [d_in].
    """
    return weight.float().abs() * seen.to(weight.device).sqrt()
