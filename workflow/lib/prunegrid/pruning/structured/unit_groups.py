"""Units of one kind: those of a block, and how many there are in a layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """The units of one kind in one block.

    Attributes:
        kind: "mlp", "heads" (a unit is a key-value head with all query heads that use it),
            "blocks" (the block is the unit) or "experts" (`Experts`).
        block: name of the block.
        units: how many there are.
        rows: full linear name → output rows of each unit, int64 [units, rows a unit].
        columns: full linear name → input columns of each unit, int64 [units, columns a unit].
        slices: tensor of the model's state → its dimension with an entry a unit.
        parts: runs of consecutive units that lose the same number each.
    """

    kind: str
    block: str
    units: int
    rows: Mapping[str, Tensor]
    columns: Mapping[str, Tensor]
    slices: Mapping[str, int] = field(default_factory=dict)
    parts: int = 1

    @property
    def linears(self) -> set[str]:
        """Return the full names of the linears that hold weights of units."""
        return {*self.rows, *self.columns}

    @property
    def size(self) -> str:
        """Return the number of units and the size of one, for comparison and for errors."""
        parts = [str(t.shape[1]) for t in (*self.rows.values(), *self.columns.values())]
        return f"{self.units} units of {'+'.join(parts)} rows and columns"

    def weights(self, shapes: Mapping[str, Sequence[int]]) -> int:
        """Return how many weights one unit has, by the shapes [d_out, d_in] of the linears."""
        rows = sum(rows.shape[1] * shapes[name][1] for name, rows in self.rows.items())
        return rows + sum(part.shape[1] * shapes[name][0] for name, part in self.columns.items())

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


@dataclass(frozen=True, kw_only=True)
class Experts(Group):
    """The experts of one block that a router chooses among; those that all tokens share stay.

    `slices` are the experts' own tensors, the router's, and biases that choose among experts;
    `parts` the router's groups of experts, which stay the same groups if each loses as many.

    Attributes:
        holder: full name of the module that holds the experts' tensors.
        members: full names of each expert's linears.
        usable: parts that a token takes experts from.
        top_k: experts that a token is given; None where the holder is not told which.
    """

    holder: str
    members: Sequence[Sequence[str]]
    usable: int
    top_k: int | None

    @property
    def linears(self) -> set[str]:
        """Return the full names of the experts' linears."""
        return {name for names in self.members for name in names}

    @property
    def size(self) -> str:
        """Return the number of experts."""
        return f"{self.units} experts"

    def weights(self, shapes: Mapping[str, Sequence[int]]) -> int:
        """Return how many weights one expert has, by the shapes [d_out, d_in] of the linears."""
        return sum(math.prod(shapes[name]) for name in self.members[0])

    def scores(self, importance: Mapping[str, Tensor]) -> Tensor:
        """Return each expert's sum of the importance of its weights, float64 [units]."""
        totals = (sum(importance[n].double().sum() for n in names) for names in self.members)
        return torch.stack([total.cpu() for total in totals])


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


def lowest(values: Tensor, count: int, parts: int = 1) -> Tensor:
    """Return the places of the lowest values, of equal ones the first, int64 in rising order.

    Args:
        values: [units]; those that are NaN are higher than all others.
        count: how many in all; each of the `parts` runs of consecutive units gives as many.
    """
    order = values.reshape(parts, -1).argsort(dim=1, stable=True)[:, : count // parts]
    starts = torch.arange(parts)[:, None] * (len(values) // parts)
    return (order.cpu() + starts).flatten().sort().values
