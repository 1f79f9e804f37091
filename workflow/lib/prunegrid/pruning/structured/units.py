"""Units of a model: weights that go together, found by shapes and by how linears connect.

A block is run once. The linears that are given the same tensor *write* units, some rows a unit; a
linear that is called after them and is as wide as what they write *reads* them, some columns a
unit:

    MLP        one linear (or two: gate and up) [I, d] that write, one [d, I] that reads; or one
               [2I, d] whose halves are gate and up
    attention  queries, keys and values (and gates, if any) that write, one that reads, as wide as
               the queries are high

Linears of one parent module are looked at first, then those that are called one after the other
(BERT's MLP is spread over two modules). A block may have no units of a kind: hybrids have attention
in some blocks only. Experts are found otherwise (`config_experts`).

Shapes do not tell whether units are independent of each other: the shrunken model is compared with
the one in which the units give nothing (`prunegrid.pruning.structured.equivalence`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks, find_blocks, oriented
from prunegrid.models.forward import device_of, is_encoder_decoder, run_window
from prunegrid.pruning.paired_inputs import inputs_of
from prunegrid.pruning.structured.config_experts import experts_by_config
from prunegrid.pruning.structured.config_heads import heads_by_config
from prunegrid.pruning.structured.config_settings import MLP_WIDTH, setting
from prunegrid.pruning.structured.unit_groups import Group, Kind


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
        """Return the kinds of units by name; blocks have their mean size."""
        shapes = {name: oriented(linear).shape for name, linear in self.linears.items()}
        kinds = {}
        for group in self.groups:
            kinds[group.kind] = Kind(group.units, group.weights(shapes), len(self.of(group.kind)))
        if "blocks" in kinds:  # they may differ in size
            number = kinds["blocks"].layers
            total = sum(height * width for height, width in shapes.values())
            kinds["blocks"] = Kind(number, round(total / number), 1)
        return kinds


def find_units(model: nn.Module, kinds: Iterable[str], window: Tensor) -> Units:
    """Return the units of some kinds, of the same shapes in each block that has such units.

    Args:
        kinds: of "mlp", "heads", "blocks" and "experts".
        window: int64 [1, length], some tokens to run the model on.

    Raises:
        PrunegridError: no block has units of a kind, they cannot be told, or they differ.
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
    _require_own_weights(where, blocks)
    with torch.no_grad():
        window = window.to(device_of(model))
        inputs = inputs_of(linears, lambda: run_window(model, window), stop=False)
    for kind in kinds:
        if kind == "experts":
            of_kind: list[Group] = list(experts_by_config(model, blocks, window))
        else:
            find = {"mlp": _mlp, "heads": _heads, "blocks": _whole}[kind]
            found = [find(model, *block, inputs) for block in blocks.linears.items()]
            of_kind = [group for group in found if group is not None]
        if kind == "heads" and not of_kind:
            of_kind = heads_by_config(model, blocks)
        if not of_kind:
            raise _none_found(model, kind, blocks, inputs)
        sizes = {group.size for group in of_kind}
        if kind != "blocks" and len(sizes) > 1:
            raise PrunegridError(
                f"blocks differ in their {kind}: {' and '.join(sorted(sizes))}",
                where=where,
                expected="as many units of one size in each block that has some",
                remedy="this architecture is not supported; `units: [blocks]` may be",
            )
        groups += of_kind
    return Units(model, blocks, groups)


def _require_own_weights(where: str, blocks: Blocks) -> None:
    """Check that no two blocks hold one matrix."""
    owners: dict[int, tuple[str, str]] = {}
    for block, module in zip(blocks.names, blocks.modules, strict=True):
        for name, weight in module.named_parameters():
            owner, first = owners.setdefault(id(weight), (block, name))
            if owner != block and weight.dim() > 1:
                raise PrunegridError(
                    f"blocks share weights: {block}.{name} is {owner}.{first}",
                    where=where,
                    expected="units with weights of their own",
                    remedy="this architecture is not supported for pattern structured",
                )


def _none_found(
    model: nn.Module, kind: str, blocks: Blocks, inputs: Mapping[str, list[Tensor]]
) -> PrunegridError:
    """Return the refusal of a kind of unit that no block has."""
    name, linears = max(blocks.linears.items(), key=lambda item: len(item[1]))
    calls = min((len(inputs.get(linear, ())) for linear in linears), default=0)
    expected = "linears [I, d] that write neurons, and one [d, I] that reads them"
    remedy = "this architecture is not supported for `units: [mlp]`; `[blocks]` may be"
    what = f"no MLP can be told among the linears {_shapes(linears)}"
    if kind == "heads":
        expected = "queries, keys and values in linears of their own, and one that reads them"
        remedy = "use `units: [mlp]` or `units: [blocks]`"
        what = f"its attention heads cannot be told among the linears {_shapes(linears)}"
        if not setting(model.config, "num_attention_heads"):
            what = "no block has attention, as its config has no num_attention_heads"
    if calls > 1:
        expected, what = "linears that are called once", f"its linears are called {calls} times"
    return PrunegridError(
        what, where=f"{type(model).__name__}, {name}", expected=expected, remedy=remedy
    )


def _consecutive(units: int, size: int) -> Tensor:
    """Return the rows of units that lie one after the other, int64 [units, size / units]."""
    return torch.arange(size).reshape(units, -1)


def _whole(
    model: nn.Module, block: str, linears: Mapping[str, nn.Module], inputs: Mapping
) -> Group:
    """Return a block as a unit."""
    rows = {name: _consecutive(1, len(oriented(linear))) for name, linear in linears.items()}
    return Group("blocks", block, 1, rows, {})


def _runs(names: Iterable[str], inputs: Mapping[str, list[Tensor]]) -> list[list[str]]:
    """Return names in the order of their calls, grouped where neighbours have the same input."""
    runs: list[list[str]] = []
    for name in names:
        if runs and inputs[runs[-1][0]][0] is inputs[name][0]:
            runs[-1].append(name)
        else:
            runs.append([name])
    return runs


def _families(
    linears: Mapping[str, nn.Module], inputs: Mapping[str, list[Tensor]]
) -> Iterator[list[tuple[dict[str, int], str, int]]]:
    """Yield lists of (those that write → height, the one that reads, its width).

    First those of one parent, then those that follow each other.
    """
    called = [name for name in inputs if name in linears and len(inputs[name]) == 1]

    def family(writing: list[str], reading: str) -> tuple[dict[str, int], str, int]:
        heights = {name: len(oriented(linears[name])) for name in writing}
        return heights, reading, oriented(linears[reading]).shape[1]

    of_parent: dict[str, list[str]] = {}
    for name in called:
        of_parent.setdefault(name.rpartition(".")[0], []).append(name)
    found = []
    for names in of_parent.values():
        writing = [name for name in names if inputs[name][0] is inputs[names[0]][0]]
        reading = [name for name in names if name not in writing]
        if len(reading) == 1:
            found.append(family(writing, reading[0]))
    yield found
    yield [
        family(writing, reading[0])
        for writing, reading in itertools.pairwise(_runs(called, inputs))
        if len(reading) == 1
    ]


def _mlp(
    model: nn.Module, block: str, linears: Mapping[str, nn.Module], inputs: Mapping
) -> Group | None:
    """Return the neurons of a block's MLP; None where it has none."""
    for families in _families(linears, inputs):
        groups = []
        for heights, reading, width in families:
            ends = {oriented(linears[name]).shape[1] for name in heights}
            if ends != {len(oriented(linears[reading]))}:  # from the residual stream and back
                continue
            rows = _consecutive(width, width)
            if len(heights) == 1 and set(heights.values()) == {2 * width}:
                rows = rows + torch.tensor([[0, width]])
            elif len(heights) > 2 or set(heights.values()) != {width}:
                continue
            groups.append(Group("mlp", block, width, dict.fromkeys(heights, rows),
                                {reading: _consecutive(width, width)}))  # fmt: skip
        if len(groups) > 1:
            groups = [group for group in groups if _is_named(model, group.units)] or groups
        if len(groups) > 1:
            raise PrunegridError(
                f"{len(groups)} groups of linears may be the MLP, among {_shapes(linears)}",
                where=f"{type(model).__name__}, {block}",
                expected="one, or one whose width the config has under a usual name",
                remedy="this architecture is not supported for `units: [mlp]`; `[blocks]` may be",
            )
        if groups:
            return groups[0]
    return None


def _is_named(model: nn.Module, width: int) -> bool:
    """Return whether the config has a width under one of the usual names of an MLP's."""
    values = (setting(model.config, key) for key in MLP_WIDTH)
    return any(width in (value if isinstance(value, list) else [value]) for value in values)


def _heads(
    model: nn.Module, block: str, linears: Mapping[str, nn.Module], inputs: Mapping
) -> Group | None:
    """Return the key-value groups of a block's attention; None where it has none."""
    config = model.config
    heads = setting(config, "num_attention_heads")
    units = setting(config, "num_key_value_heads") or heads
    if not isinstance(heads, int) or not isinstance(units, int) or heads % units:
        return None
    usual = setting(config, "head_dim") or (setting(config, "hidden_size") or 0) // heads
    for families in _families(linears, inputs):
        for heights, reading, width in families:
            if width % heads:
                continue
            if len(heights) == 1 and width != usual * heads:  # an MLP's halves can look like that
                continue
            rows = _rows_of_heads(heights, units, width, width // heads)
            if rows:
                return Group("heads", block, units, rows, {reading: _consecutive(units, width)})
    return None


def _rows_of_heads(
    heights: Mapping[str, int], units: int, width: int, size: int
) -> dict[str, Tensor]:
    """Return name → rows of each key-value group; empty if the linears are not those of attention.

    Args:
        width: of all heads together.
        size: of one head.
    """
    shared, others = units * size, sorted(heights.values())
    if len(heights) == 1 and others == [width + 2 * shared]:  # queries, keys, values, in this order
        parts = [_consecutive(units, width), width + _consecutive(units, shared)]
        rows = torch.cat([*parts, parts[1] + shared], dim=1)
        return dict.fromkeys(heights, rows)
    if others.count(shared) < 2:
        return {}
    others.remove(shared)
    others.remove(shared)
    if not others or max(others) % width or any(height % units for height in others):
        return {}
    return {name: _consecutive(units, height) for name, height in heights.items()}


def _shapes(linears: Mapping[str, nn.Module]) -> str:
    """Return the linears' names and shapes, for an error."""
    listed = (f"{n.rpartition('.')[2]} {list(oriented(m).shape)}" for n, m in linears.items())
    return ", ".join(listed)
