"""Which weights belong to one unit, found by shapes and by how the linears of a block connect.

A block is run once. The linears of one parent module that are given the same tensor *write* units,
one row (or a head's rows) a unit; the linear of the same parent that is called after them and is as
wide as they are high *reads* them, one column (or a head's columns) a unit:

    MLP        one linear (or two: gate and up) [I, d] that write, one [d, I] that reads
    attention  three (q, k, v) that write, one that reads, as wide as q is high

Whether units are really independent of each other is not told by shapes: the shrunken model is
compared with the one in which the units are zero (`prunegrid.pruning.structured.stage`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks, oriented
from prunegrid.models.forward import run_window
from prunegrid.pruning import paired_inputs

KINDS = ("mlp", "heads", "blocks")


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
            found = importance[name].double().reshape(self.units, width, -1)
            total += found.sum((1, 2)).cpu()
        for name, width in self.columns.items():
            found = importance[name].double().reshape(-1, self.units, width)
            total += found.sum((0, 2)).cpu()
        return total

    def weights(self, linears: Mapping[str, nn.Module]) -> int:
        """Return how many prunable weights one unit has."""
        rows = sum(width * oriented(linears[n]).shape[1] for n, width in self.rows.items())
        return rows + sum(
            width * oriented(linears[n]).shape[0] for n, width in self.columns.items()
        )

    def indices(self, units: Tensor, width: int) -> Tensor:
        """Return the rows or columns of some units [n], int64 [n · width]."""
        return (units[:, None] * width + torch.arange(width)).flatten()


def find_groups(model: nn.Module, blocks: Blocks, kind: str, window: Tensor) -> list[Group]:
    """Return the units of a kind, a group a block, all of the same shapes.

    Args:
        window: int64 [1, length], some tokens to run the model on.

    Raises:
        PrunegridError: units of this kind cannot be found, or not the same in all blocks.
    """
    if kind == "blocks":
        return [_whole(name, blocks.linears[name]) for name in blocks.names]
    every = {n: m for linears in blocks.linears.values() for n, m in linears.items()}
    with torch.no_grad():
        seen = paired_inputs.inputs_of(every, lambda: run_window(model, window), stop=False)
    find = {"mlp": _mlp, "heads": _heads}[kind]
    found = [find(model, name, linears, seen) for name, linears in blocks.linears.items()]
    shapes = {(g.units, *g.rows.values(), *g.columns.values()) for g in found}
    if len(shapes) > 1:
        raise PrunegridError(
            f"blocks differ in their {kind}: {sorted(shapes)}",
            where=type(model).__name__,
            expected="the same shapes in every block",
            remedy="this architecture is not supported; `units: [blocks]` may be",
        )
    return found


def _whole(block: str, linears: Mapping[str, nn.Module]) -> Group:
    return Group("blocks", block, 1, {n: len(oriented(m)) for n, m in linears.items()}, {})


def _families(
    linears: Mapping[str, nn.Module], seen: Mapping[str, list[Tensor]]
) -> list[tuple[list[str], str]]:
    """Return (those that write, the one that reads) of every parent module of that form."""
    parents: dict[str, list[str]] = {}
    for name in seen:  # in the order in which they are called
        if name in linears:
            parents.setdefault(name.rpartition(".")[0], []).append(name)
    found = []
    for names in parents.values():
        if any(len(seen[name]) != 1 for name in names):
            continue
        writing = [name for name in names if seen[name][0] is seen[names[0]][0]]
        reading = [name for name in names if name not in writing]
        if len(reading) == 1:
            found.append((writing, reading[0]))
    return found


def _mlp(
    model: nn.Module, block: str, linears: Mapping[str, nn.Module], seen: Mapping[str, list[Tensor]]
) -> Group:
    """Return the neurons of a block's MLP."""
    found = []
    for writing, reading in _families(linears, seen):
        width = oriented(linears[reading]).shape[1]
        if len(writing) <= 2 and all(len(oriented(linears[n])) == width for n in writing):
            found.append(Group("mlp", block, width, dict.fromkeys(writing, 1), {reading: 1}))
    if len(found) != 1:
        raise PrunegridError(
            f"{len(found) or 'no'} MLP can be told among the linears {_shapes(linears)}",
            where=f"{type(model).__name__}, {block}",
            expected="one or two linears [I, d] and one [d, I] of one parent module",
            remedy="this architecture is not supported for `units: [mlp]`; `[blocks]` may be",
        )
    return found[0]


def _heads(
    model: nn.Module, block: str, linears: Mapping[str, nn.Module], seen: Mapping[str, list[Tensor]]
) -> Group:
    """Return the key-value groups of a block's attention."""
    config: Any = model.config
    heads = getattr(config, "num_attention_heads", None)
    groups = getattr(config, "num_key_value_heads", None) or heads
    found = []
    for writing, reading in _families(linears, seen):
        width = oriented(linears[reading]).shape[1]
        heights = {n: len(oriented(linears[n])) for n in writing}
        if len(writing) != 3 or not heads or width % heads or heads % groups:
            continue
        size = width // heads
        if sorted(heights.values()) == sorted([width, groups * size, groups * size]):
            rows = {name: height // groups for name, height in heights.items()}
            found.append(Group("heads", block, groups, rows, {reading: width // groups}))
    if len(found) != 1:
        raise PrunegridError(
            f"its attention heads cannot be told among the linears {_shapes(linears)}",
            where=f"{type(model).__name__}, {block}",
            expected="queries, keys and values in linears of their own, and one that reads them",
            remedy="use `units: [mlp]` or `units: [blocks]`",
        )
    return found[0]


def _shapes(linears: Mapping[str, nn.Module]) -> str:
    listed = (f"{n.rpartition('.')[2]} {list(oriented(m).shape)}" for n, m in linears.items())
    return ", ".join(listed)
