"""Units of one kind: those of a block, and how many there are in a layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """The units of one kind in one block.

    Attributes:
        kind: "mlp", "heads" (a unit is a key-value head with all query heads that use it) or
            "blocks" (the block is the unit).
        block: name of the block.
        units: how many there are.
        rows: full linear name → output rows of each unit, int64 [units, rows a unit].
        columns: full linear name → input columns of each unit, int64 [units, columns a unit].
    """

    kind: str
    block: str
    units: int
    rows: Mapping[str, Tensor]
    columns: Mapping[str, Tensor]

    def scores(self, importance: Mapping[str, Tensor]) -> Tensor:
        """Return each unit's sum of the importance [d_out, d_in] of its weights, float64 [units].

        A weight of a linear that both writes and reads units (none here does) would count twice.
        """
        total = torch.zeros(self.units, dtype=torch.float64)
        for name, rows in self.rows.items():
            total += importance[name].double()[rows].sum((1, 2)).cpu()
        for name, columns in self.columns.items():
            total += importance[name].double()[:, columns].sum((0, 2)).cpu()
        return total


@dataclass(frozen=True)
class Kind:
    """The number and size of one kind of unit.

    Attributes:
        units: in a layer (of blocks: in the model).
        weights: prunable weights of one unit.
        layers: that have units and lose the same number of them (of blocks: 1).
    """

    units: int
    weights: int
    layers: int

    def nearest(self, goal: float) -> int:
        """Return how many a layer loses so that the model loses as near `goal` as units can."""
        wanted = goal / (self.layers * self.weights)
        # One always stays: a layer without any has no shape that a config could say.
        return min(max(math.floor(wanted + 0.5), 0), self.units - 1)

    def lost(self, count: int) -> int:
        """Return how many weights the model loses by `count` units a layer."""
        return count * self.weights * self.layers
