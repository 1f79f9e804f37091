"""A model without some of its units: its config, its tensors, the model itself.

The one table that knows what configs call their shapes is here; nothing in it names a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks, is_transposed
from prunegrid.models.loading import auto_class, kind_of
from prunegrid.pruning.structured.units import Group

# The width of the MLP: the first key that a config has, with the width (or None: a default).
MLP_WIDTH = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "d_ff")
# Lists with an entry a block.
A_BLOCK_EACH = ("layer_types", "no_rope_layers", "mlp_layer_types")


def changes_for(model: nn.Module, blocks: Blocks, groups: Sequence[Group], kept: Mapping) -> dict:
    """Return what the config of the smaller model says otherwise, by transformers' own names.

    Args:
        groups: of every kind and block.
        kept: (kind, block) → int64 indices of the units that stay.

    Raises:
        PrunegridError: no key of the config is the width of the MLP.
    """
    config: Any = model.config
    changes: dict[str, Any] = {}
    firsts = {group.kind: group for group in reversed(groups)}
    if "mlp" in firsts:
        group = firsts["mlp"]
        found = [k for k in MLP_WIDTH if getattr(config, k, 0) in (group.units, None)]
        if not found:
            raise PrunegridError(
                f"no key of its config is the MLP's width {group.units}",
                where=type(model).__name__,
                expected=f"one of {', '.join(MLP_WIDTH)}",
                remedy="this architecture is not supported for `units: [mlp]`",
            )
        changes[found[0]] = len(kept["mlp", group.block])
    if "heads" in firsts:
        group = firsts["heads"]
        stay, heads = len(kept["heads", group.block]), config.num_attention_heads
        per_group = heads // group.units
        changes["num_attention_heads"] = stay * per_group
        changes["head_dim"] = next(iter(group.columns.values())) // per_group
        if getattr(config, "num_key_value_heads", None) is not None:
            changes["num_key_value_heads"] = stay
    if "blocks" in firsts:
        places = [i for i, name in enumerate(blocks.names) if len(kept["blocks", name])]
        changes["num_hidden_layers"] = len(places)
        for key in A_BLOCK_EACH:
            listed = getattr(config, key, None)
            if listed is not None and len(listed) == len(blocks.names):
                changes[key] = [listed[place] for place in places]
    return changes


def smaller_config(model: nn.Module, changes: Mapping[str, Any]):
    """Return the model's config with some keys changed.

    Raises:
        PrunegridError: the architecture's config refuses them.
    """
    config: Any = model.config
    names = getattr(config, "attribute_map", {})
    named = {names.get(key, key): value for key, value in changes.items()}
    try:
        return type(config).from_dict({**config.to_dict(), **named})
    except Exception as error:  # each architecture checks its config in its own way
        raise PrunegridError(
            f"its config cannot say {_said(named)}: {str(error).strip().splitlines()[-1]}",
            where=type(model).__name__,
            remedy="choose another sparsity, or other units",
        ) from error


def smaller_tensors(
    state: Mapping[str, Tensor],
    model: nn.Module,
    blocks: Blocks,
    groups: Sequence[Group],
    kept: Mapping,
) -> dict[str, Tensor]:
    """Return the tensors of the smaller model by the names of its state.

    Args:
        state: the model's tensors, on any device ("meta" too).
        kept: see `changes_for`.
    """
    tensors = dict(state)
    modules = dict(model.named_modules())
    for group in groups:
        units = kept[group.kind, group.block]
        if group.kind == "blocks":
            continue
        for name, width in group.rows.items():
            rows, across = group.indices(units, width), is_transposed(modules[name])
            _select(tensors, f"{name}.weight", rows, int(across))
            if f"{name}.bias" in tensors:
                _select(tensors, f"{name}.bias", rows, 0)
        for name, width in group.columns.items():
            columns = group.indices(units, width)
            _select(tensors, f"{name}.weight", columns, int(not is_transposed(modules[name])))
    if any(group.kind == "blocks" for group in groups):
        stay = [name for name in blocks.names if len(kept["blocks", name])]
        tensors = _renumbered(tensors, blocks.names, stay)
    return tensors


def _select(tensors: dict[str, Tensor], name: str, places: Tensor, dim: int) -> None:
    tensors[name] = tensors[name].index_select(dim, places.to(tensors[name].device)).contiguous()


def _renumbered(
    tensors: Mapping[str, Tensor], names: Sequence[str], stay: Sequence[str]
) -> dict[str, Tensor]:
    """Return the tensors without those of blocks that go; the others' move up."""
    new = {name: f"{name.rpartition('.')[0]}.{place}" for place, name in enumerate(stay)}
    found = {}
    for key, value in tensors.items():
        block = next((name for name in names if key.startswith(f"{name}.")), None)
        if block is None:
            found[key] = value
        elif block in new:
            found[new[block] + key.removeprefix(block)] = value
    return found


def empty_model(config) -> nn.Module:
    """Return the model of a config without its weights, as plain transformers builds it."""
    with init_empty_weights(include_buffers=False):
        return auto_class(kind_of(config)).from_config(config, dtype=config.dtype).eval()


def require_expressed(model: nn.Module, config, shapes: Mapping[str, Tensor]) -> None:
    """Check that the smaller config gives exactly the tensors that stay, before any work.

    Args:
        shapes: the smaller model's tensors, on any device ("meta" too).

    Raises:
        PrunegridError: it gives others: its shapes cannot be said by this config.
    """
    where = type(model).__name__
    expected = "a config that says the shape of what is removed: fewer heads need a head_dim"
    remedy = "use `units: [mlp]` or `units: [blocks]`"
    try:
        built = empty_model(config).state_dict()
    except Exception as error:  # each architecture checks its shapes in its own way
        fault = f"it cannot be built without these units: {error}"
        raise PrunegridError(fault, where=where, expected=expected, remedy=remedy) from error
    for name in sorted(built.keys() | shapes.keys()):
        made, left = (list(some[name].shape) if name in some else None for some in (built, shapes))
        if made != left:
            fault = f"{name} would be {left}, and its config makes it {made}"
            raise PrunegridError(fault, where=where, expected=expected, remedy=remedy)


def smaller_model(model: nn.Module, config, tensors: dict[str, Tensor]) -> nn.Module:
    """Return the model of a smaller config, with these tensors."""
    new = empty_model(config)
    new.load_state_dict(tensors, strict=True, assign=True)
    new.tie_weights()
    if getattr(model, "generation_config", None) is not None:
        new.generation_config = model.generation_config
    return new.requires_grad_(False)


def first_units(groups: Sequence[Group], stay: Mapping[str, int]) -> dict:
    """Return some choice of units that stay, of the right number: for questions about shapes."""
    kept, blocks = {}, 0
    for group in groups:
        count = stay[group.kind]
        if group.kind == "blocks":
            blocks += 1
            count = int(blocks <= stay["blocks"])
        kept[group.kind, group.block] = torch.arange(count)
    return kept


def _said(named: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in named.items())
