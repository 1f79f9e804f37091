"""First-order Taylor: a unit's score is the sum of |w·∂L/∂w| over its weights.

L is the mean cross-entropy of the next token over all calibration windows, so w·∂L/∂w is what L is
expected to lose or gain when the weight goes. Molchanov et al. 2019 (Importance Estimation for
Neural Network Pruning, arXiv:1906.10771, first-order); LLM-Pruner sums it over groups of LLMs
(Ma et al. 2023, arXiv:2305.11627, element-wise importance). Deviations: absolute values and not
squares; the gradient is that of the mean loss and not taken sample by sample; no second-order term.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

FITS = ("causal-lm",)
CITE = ("molchanov2019importance", "ma2023llmpruner")
UNITS = ("mlp", "heads", "blocks")
NEEDS = "gradients"
SETTINGS: dict[str, Any] = {}
DRAWS = False


def importance(weight: Tensor, seen: Tensor) -> Tensor:
    """Return |w · g|, float32 [d_out, d_in].

    Args:
        seen: g = ∂L/∂w, float32 [d_out, d_in].
    """
    return (weight.float() * seen.to(weight.device)).abs()
