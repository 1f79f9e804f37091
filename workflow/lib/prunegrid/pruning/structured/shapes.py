"""A model without some of its units: its config, its tensors, the model itself.

The one table that knows what configs call their shapes is here; nothing in it names a model. `kept`
is (kind, block) → int64 indices of the units that stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import is_transposed
from prunegrid.pruning.offload import empty_model
from prunegrid.pruning.structured.units import Units

# The width of the MLP: the first key that a config has, with the width (or None: a default).
MLP_WIDTH = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "d_ff")
# Lists with an entry a block.
A_BLOCK_EACH = ("layer_types", "no_rope_layers", "mlp_layer_types")


def _changes(units: Units, kept: Mapping) -> dict[str, Any]:
    """Return the keys of the config that change, by transformers' own names."""
    config: Any = units.model.config
    changes: dict[str, Any] = {}
    firsts = {group.kind: group for group in reversed(units.groups)}
    if "mlp" in firsts:
        group = firsts["mlp"]
        keys = [k for k in MLP_WIDTH if getattr(config, k, 0) in (group.units, None)]
        if not keys:
            raise PrunegridError(
                f"no key of its config is the MLP's width {group.units}",
                where=type(units.model).__name__,
                expected=f"one of {', '.join(MLP_WIDTH)}",
                remedy="this architecture is not supported for `units: [mlp]`",
            )
        changes[keys[0]] = len(kept["mlp", group.block])
    if "heads" in firsts:
        group = firsts["heads"]
        stay, heads = len(kept["heads", group.block]), config.num_attention_heads
        per_group = heads // group.units
        changes["num_attention_heads"] = stay * per_group
        changes["head_dim"] = next(iter(group.columns.values())) // per_group
        if getattr(config, "num_key_value_heads", None) is not None:
            changes["num_key_value_heads"] = stay
    if "blocks" in firsts:
        places = [i for i, name in enumerate(units.blocks.names) if len(kept["blocks", name])]
        changes["num_hidden_layers"] = len(places)
        for key in A_BLOCK_EACH:
            entries = getattr(config, key, None)
            if entries is not None and len(entries) == len(units.blocks.names):
                changes[key] = [entries[place] for place in places]
    return changes


def smaller_config(units: Units, kept: Mapping):
    """Return the config of the smaller model.

    Raises:
        PrunegridError: no key of the config is the width of the MLP, or the architecture's config
            refuses the new shapes.
    """
    config: Any = units.model.config
    names = getattr(config, "attribute_map", {})
    named = {names.get(key, key): value for key, value in _changes(units, kept).items()}
    try:
        return type(config).from_dict({**config.to_dict(), **named})
    except Exception as error:  # each architecture checks its config in its own way
        shapes = ", ".join(f"{key}: {value}" for key, value in named.items())
        raise PrunegridError(
            f"its config cannot say {shapes}: {str(error).strip().splitlines()[-1]}",
            where=type(units.model).__name__,
            remedy="choose another sparsity, or other units",
        ) from error


def smaller_tensors(state: Mapping[str, Tensor], units: Units, kept: Mapping) -> dict[str, Tensor]:
    """Return the tensors of the smaller model by the names of its state.

    Args:
        state: the model's tensors, on any device ("meta" too).
    """
    tensors, modules = dict(state), dict(units.model.named_modules())

    def select(name: str, places: Tensor, dim: int) -> None:
        places = places.to(tensors[name].device)
        tensors[name] = tensors[name].index_select(dim, places).contiguous()

    for group in units.groups:
        if group.kind == "blocks":
            continue
        stay = kept[group.kind, group.block]
        for name, width in group.rows.items():
            rows = group.indices(stay, width)
            select(f"{name}.weight", rows, int(is_transposed(modules[name])))
            if f"{name}.bias" in tensors:
                select(f"{name}.bias", rows, 0)
        for name, width in group.columns.items():
            columns = group.indices(stay, width)
            select(f"{name}.weight", columns, int(not is_transposed(modules[name])))
    if units.of("blocks"):
        names = units.blocks.names
        tensors = _renumbered(tensors, names, [n for n in names if len(kept["blocks", n])])
    return tensors


def _renumbered(
    tensors: Mapping[str, Tensor], names: Sequence[str], stay: Sequence[str]
) -> dict[str, Tensor]:
    """Return the tensors without those of blocks that go; the others' move up."""
    new = {name: f"{name.rpartition('.')[0]}.{place}" for place, name in enumerate(stay)}
    renumbered = {}
    for key, value in tensors.items():
        block = next((name for name in names if key.startswith(f"{name}.")), None)
        if block is None:
            renumbered[key] = value
        elif block in new:
            renumbered[new[block] + key.removeprefix(block)] = value
    return renumbered


def require_expressed(units: Units, kept: Mapping) -> None:
    """Check that the smaller config gives exactly the tensors that stay, before any work.

    Raises:
        PrunegridError: there is no such config, or it gives other shapes.
    """
    words = {
        "where": type(units.model).__name__,
        "expected": "a config that says the shape of what is removed: fewer heads need a head_dim",
        "remedy": "use `units: [mlp]` or `units: [blocks]`",
    }
    config = smaller_config(units, kept)
    state = {name: value.to("meta") for name, value in units.model.state_dict().items()}
    ghosts = smaller_tensors(state, units, kept)
    try:
        built = empty_model(config).state_dict()
    except Exception as error:  # each architecture checks its shapes in its own way
        fault = f"it cannot be built without these units: {error}"
        raise PrunegridError(fault, **words) from error
    for name in sorted(built.keys() | ghosts.keys()):
        made, left = (list(some[name].shape) if name in some else None for some in (built, ghosts))
        if made != left:
            raise PrunegridError(f"{name} would be {left}, and its config makes it {made}", **words)


def smaller_model(units: Units, kept: Mapping) -> nn.Module:
    """Return the model without the units that go, as plain transformers builds it."""
    model = empty_model(smaller_config(units, kept))
    tensors = smaller_tensors(units.model.state_dict(), units, kept)
    model.load_state_dict(tensors, strict=True, assign=True)
    model.tie_weights()
    if getattr(units.model, "generation_config", None) is not None:
        model.generation_config = units.model.generation_config
    return model.requires_grad_(False)


def first_units(units: Units, stay: Mapping[str, int]) -> dict:
    """Return some choice of units that stay, of the right number: for questions about shapes."""
    kept = {(g.kind, g.block): torch.arange(stay[g.kind]) for g in units.groups}
    for place, group in enumerate(units.of("blocks")):
        kept["blocks", group.block] = torch.arange(int(place < stay["blocks"]))
    return kept
