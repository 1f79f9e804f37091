"""REAP: an expert's score is the mean of its gate times the norm of its output, g_j·‖f_j(x)‖₂.

The mean is over the tokens that the router gives the expert; g_j is the weight with which the model
sums its output, f_j(x) the output before it is weighted. Lasby et al. 2026 (REAP the Experts,
arXiv:2510.13999, the saliency S_j). Deviations from the authors' code: gates and choices are the
model's own (there a softmax of the logits, whatever the router does, without biases of choice);
experts that no token reaches are kept (there their score is zero, so they go first).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

FITS = ("causal-lm",)
CITE = ("lasby2026reap",)
UNITS = ("experts",)
NEEDS = "expert_outputs"
SETTINGS: dict[str, Any] = {}
DRAWS = False


def importance(gates: Tensor, norms: Tensor) -> Tensor:
    """Return g·‖f(x)‖₂ of each token, float32 [tokens].

    Args:
        gates: the router's weights of one expert, float32 [tokens].
        norms: L2 norms of its outputs, float32 [tokens].
    """
    return gates * norms
