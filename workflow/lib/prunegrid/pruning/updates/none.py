"""No update: the weights that stay are the ones that were there."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunegrid.pruning.input_stats import InputStats
from prunegrid.pruning.patterns import apply_mask

CITE: tuple[str, ...] = ()  # none: changes nothing
NEEDS = "nothing"
SETTINGS: dict[str, Any] = {}


def update_linear(
    weight: Tensor, kept: Tensor, stats: InputStats | None
) -> tuple[Tensor, dict[str, Any]]:
    """Return the weight [d_out, d_in] under its mask, and no facts."""
    return apply_mask(weight, kept), {}
