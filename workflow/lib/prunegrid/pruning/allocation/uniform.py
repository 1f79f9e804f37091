"""Uniform allocation: every linear loses the same fraction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

CITE: tuple[str, ...] = ()  # none: the same share everywhere
NEEDS = "nothing"
SETTINGS: dict[str, Any] = {}


def allocate(
    blocks: Mapping[str, Mapping[str, Tensor]],
    sparsity: float,
    norms: Mapping[str, Tensor] | None,
) -> dict[str, float]:
    """Return linear → sparsity, the same for all."""
    return {name: float(sparsity) for linears in blocks.values() for name in linears}
