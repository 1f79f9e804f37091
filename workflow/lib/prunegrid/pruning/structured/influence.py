"""Block influence: a block's score is how far it turns the hidden states that pass through it.

BI = 1 - mean over tokens of cos(h_in, h_out), with h the hidden states (Men et al. 2024, ShortGPT,
arXiv:2403.03853). The blocks of the lowest influence go. One pass of the dense model.
Deviation: a token whose hidden states are zero before or after the block counts as turned by 1.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import cosine_similarity

FITS = ("causal-lm", "masked-lm", "encoder")
CITE = ("men2024shortgpt",)
NEEDS = "hidden_states"
UNITS = ("blocks",)
SETTINGS: dict[str, Any] = {}
DRAWS = False


def importance_of_block(entering: Tensor, leaving: Tensor) -> Tensor:
    """Return 1 - cos(entering, leaving), float64 [tokens].

    Args:
        entering, leaving: hidden states [tokens, d] before and after a block.
    """
    return 1 - cosine_similarity(entering.double(), leaving.double(), dim=-1)
