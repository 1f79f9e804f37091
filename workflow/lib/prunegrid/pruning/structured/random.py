"""Random units, the control: sums of equally many uniform random numbers, so every choice is as
likely. It says what a share of units costs when their choice carries no information.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FITS = ("causal-lm", "masked-lm", "encoder")
CITE: tuple[str, ...] = ()  # none: a control of this project
UNITS = ("mlp", "heads", "blocks", "experts")
NEEDS = "nothing"
SETTINGS: dict[str, Any] = {}
DRAWS = True


def importance(weight: Tensor, seen: Tensor | None, *, generator: torch.Generator) -> Tensor:
    """Return uniform random numbers, float32 [d_out, d_in].

    Args:
        generator: on the CPU, so that every device draws the same units.
    """
    return torch.rand(weight.shape, generator=generator).to(weight.device)
