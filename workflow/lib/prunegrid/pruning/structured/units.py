"""Units of a model: weights that go together, found by shapes and by how linears connect.

A block is run once. The linears of one parent module that are given the same tensor *write* units,
one row (or a head's rows) a unit; the linear of the same parent that is called after them and is as
wide as they are high *reads* them, one column (or a head's columns) a unit:

    MLP        one linear (or two: gate and up) [I, d] that write, one [d, I] that reads
    attention  three (q, k, v) that write, one that reads, as wide as q is high

Shapes do not tell whether units are independent of each other: the shrunken model is compared with
the one in which the units are zero (`prunegrid.pruning.structured.stage`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks, find_blocks, oriented
from prunegrid.models.forward import device_of, is_encoder_decoder, run_window
from prunegrid.pruning.paired_inputs import inputs_of


@dataclass(frozen=True)
class Group:
    """The units of one kind in one block.

    Attributes:
        kind: "mlp", "heads" (a unit is a key-value head with all query heads that use it) or
            "blocks" (the block is the unit).
        block: name of the block.
        units: how many there are.
        rows: full linear name → consecutive output rows of one unit.
        columns: full linear name → consecutive input columns of one unit.
    """

    kind: str
    block: str
    units: int
    rows: Mapping[str, int]
    columns: Mapping[str, int]

    def scores(self, importance: Mapping[str, Tensor]) -> Tensor:
        """Return each unit's sum of the importance [d_out, d_in] of its weights, float64 [units].

        A weight of a linear that both writes and reads units (none here does) would count twice.
        """
        total = torch.zeros(self.units, dtype=torch.float64)
        for name, width in self.rows.items():
            total += importance[name].double().reshape(self.units, width, -1).sum((1, 2)).cpu()
        for name, width in self.columns.items():
            total += importance[name].double().reshape(-1, self.units, width).sum((0, 2)).cpu()
        return total

    def indices(self, units: Tensor, width: int) -> Tensor:
        """Return the rows or columns of some units [n], int64 [n · width]."""
        return (units[:, None] * width + torch.arange(width)).flatten()


@dataclass(frozen=True)
class Kind:
    """The number and size of one kind of unit.

    Attributes:
        units: in a layer (of blocks: in the model).
        weights: prunable weights of one unit.
        layers: that lose the same number of them (of blocks: 1).
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


@dataclass(frozen=True)
class Units:
    """A model's units.

    Attributes:
        model, blocks: the model and its blocks.
        groups: a group for each kind and block.
    """

    model: nn.Module
    blocks: Blocks
    groups: list[Group]

    @property
    def linears(self) -> dict[str, nn.Module]:
        """Return full name → linear of all blocks."""
        return {n: m for group in self.blocks.linears.values() for n, m in group.items()}

    def of(self, kind: str) -> list[Group]:
        """Return the groups of a kind, in the order of the blocks."""
        return [group for group in self.groups if group.kind == kind]

    def kinds(self) -> dict[str, Kind]:
        """Return the kinds of units by name."""
        shapes = {name: oriented(linear).shape for name, linear in self.linears.items()}
        kinds = {}
        for group in self.groups:
            weights = sum(width * shapes[name][1] for name, width in group.rows.items())
            weights += sum(width * shapes[name][0] for name, width in group.columns.items())
            layers = len(self.blocks.names)
            units, layers = (layers, 1) if group.kind == "blocks" else (group.units, layers)
            kinds[group.kind] = Kind(units, weights, layers)
        return kinds


def find_units(model: nn.Module, kinds: Iterable[str], window: Tensor) -> Units:
    """Return the units of some kinds, of the same shapes in each block.

    Args:
        kinds: of "mlp", "heads" and "blocks".
        window: int64 [1, length], some tokens to run the model on.

    Raises:
        PrunegridError: units of a kind cannot be found, or are not the same in all blocks.
    """
    where = type(model).__name__
    if is_encoder_decoder(model):
        raise PrunegridError(
            "units of an encoder-decoder are not removed",
            where=where,
            expected="a model with one stack of blocks",
        )
    blocks, groups = find_blocks(model), []
    linears = {n: m for group in blocks.linears.values() for n, m in group.items()}
    with torch.no_grad():
        window = window.to(device_of(model))
        inputs = inputs_of(linears, lambda: run_window(model, window), stop=False)
    for kind in kinds:
        find = {"mlp": _mlp, "heads": _heads, "blocks": _whole}[kind]
        of_kind = [find(model, *block, inputs) for block in blocks.linears.items()]
        shapes = {(g.units, *g.rows.values(), *g.columns.values()) for g in of_kind}
        if kind != "blocks" and len(shapes) > 1:
            raise PrunegridError(
                f"blocks differ in their {kind}: {sorted(shapes)}",
                where=where,
                expected="the same shapes in every block",
                remedy="this architecture is not supported; `units: [blocks]` may be",
            )
        groups += of_kind
    return Units(model, blocks, groups)


def _whole(
    model: nn.Module, block: str, linears: Mapping[str, nn.Module], inputs: Mapping
) -> Group:
    """Return a block as a unit."""
    return Group("blocks", block, 1, {n: len(oriented(m)) for n, m in linears.items()}, {})


def _families(
    linears: Mapping[str, nn.Module], inputs: Mapping[str, list[Tensor]]
) -> list[tuple[dict[str, int], str, int]]:
    """Return (those that write → height, the one that reads, its width) of parents of that form."""
    parents: dict[str, list[str]] = {}
    for name in inputs:  # in the order in which they are called
        if name in linears:
            parents.setdefault(name.rpartition(".")[0], []).append(name)
    families = []
    for names in parents.values():
        if any(len(inputs[name]) != 1 for name in names):
            continue
        writing = [name for name in names if inputs[name][0] is inputs[names[0]][0]]
        reading = [name for name in names if name not in writing]
        if len(reading) == 1:
            heights = {name: len(oriented(linears[name])) for name in writing}
            families.append((heights, reading[0], oriented(linears[reading[0]]).shape[1]))
    return families


def _mlp(model: nn.Module, block: str, linears: Mapping[str, nn.Module], inputs: Mapping) -> Group:
    """Return the neurons of a block's MLP."""
    groups = [
        Group("mlp", block, width, dict.fromkeys(heights, 1), {reading: 1})
        for heights, reading, width in _families(linears, inputs)
        if len(heights) <= 2 and set(heights.values()) == {width}
    ]
    if len(groups) != 1:
        raise PrunegridError(
            f"{len(groups) or 'no'} MLP can be told among the linears {_shapes(linears)}",
            where=f"{type(model).__name__}, {block}",
            expected="one or two linears [I, d] and one [d, I] of one parent module",
            remedy="this architecture is not supported for `units: [mlp]`; `[blocks]` may be",
        )
    return groups[0]


def _heads(
    model: nn.Module, block: str, linears: Mapping[str, nn.Module], inputs: Mapping
) -> Group:
    """Return the key-value groups of a block's attention."""
    config: Any = model.config
    heads = getattr(config, "num_attention_heads", None)
    units = getattr(config, "num_key_value_heads", None) or heads
    groups = []
    for heights, reading, width in _families(linears, inputs):
        if len(heights) != 3 or not heads or width % heads or heads % units:
            continue
        size = width // heads
        if sorted(heights.values()) == sorted([width, units * size, units * size]):
            rows = {name: height // units for name, height in heights.items()}
            groups.append(Group("heads", block, units, rows, {reading: width // units}))
    if len(groups) != 1:
        raise PrunegridError(
            f"its attention heads cannot be told among the linears {_shapes(linears)}",
            where=f"{type(model).__name__}, {block}",
            expected="queries, keys and values in linears of their own, and one that reads them",
            remedy="use `units: [mlp]` or `units: [blocks]`",
        )
    return groups[0]


def _shapes(linears: Mapping[str, nn.Module]) -> str:
    """Return the linears' names and shapes, for an error."""
    listed = (f"{n.rpartition('.')[2]} {list(oriented(m).shape)}" for n, m in linears.items())
    return ", ".join(listed)
