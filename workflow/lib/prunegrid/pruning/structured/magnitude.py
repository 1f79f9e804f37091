"""Weight norm: a unit's score is the squared L2 norm of its weights, which ranks as the norm does.

For filters of convolutions Li et al. 2017 (Pruning Filters for Efficient ConvNets,
arXiv:1608.08710, section 3.1) take the L1 norm and find L2 alike. Here all weights of the unit
count, those that read it and those that it feeds.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

FITS = ("causal-lm", "masked-lm", "encoder")
CITE = ("li2017pruning",)
UNITS = ("mlp", "heads", "blocks", "experts")
NEEDS = "nothing"
SETTINGS: dict[str, Any] = {}
DRAWS = False


def importance(weight: Tensor, seen: Tensor | None) -> Tensor:
    """Return w², float32 [d_out, d_in]."""
    return weight.float().square()
