"""Random pruning, the control: score = a uniform random number, so every mask is as likely.

It says what a sparsity costs when the choice of weights carries no information.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prunegrid.pruning.input_stats import InputStats
from prunegrid.pruning.patterns import Pattern, prune_lowest

CITE: tuple[str, ...] = ()  # none: a control of this project
NEEDS = "nothing"
SETTINGS: dict[str, Any] = {}
SCOPE = "layer"
DRAWS = True
UPDATES = False


def prune_linear(
    weight: Tensor, stats: InputStats | None, pattern: Pattern, *, generator: torch.Generator
) -> tuple[Tensor, dict[str, Any]]:
    """Return the weight [d_out, d_in] without randomly chosen entries, and no facts.

    Args:
        generator: on the CPU, so that every device draws the same mask.
    """
    scores = torch.rand(weight.shape, generator=generator).to(weight.device)
    return prune_lowest(weight, scores, pattern), {}
