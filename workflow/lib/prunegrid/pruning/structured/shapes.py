"""The tensors of a model without some of its units, and the model itself.

`kept` is (kind, block) → int64 indices of the units that stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from prunegrid.models.blocks import is_transposed
from prunegrid.pruning.offload import empty_model
from prunegrid.pruning.structured.unit_groups import lowest
from prunegrid.pruning.structured.units import Units


def places_that_stay(units: Units, kept: Mapping) -> list[int]:
    """Return the places of the blocks that stay."""
    return [place for place, name in enumerate(units.blocks.names) if len(kept["blocks", name])]


def kept_of(units: Units, removed: Mapping) -> dict[tuple[str, str], Tensor]:
    """Return (kind, block) → the units that stay, of those that go."""
    kept = {}
    for group in units.groups:
        stays = torch.ones(group.units, dtype=torch.bool)
        stays[removed[group.kind, group.block]] = False
        kept[group.kind, group.block] = stays.nonzero().flatten()
    return kept


def smaller_tensors(
    state: Mapping[str, Tensor], units: Units, kept: Mapping, made: Mapping[str, Sequence[int]]
) -> dict[str, Tensor]:
    """Return the tensors of the smaller model by the names of its state.

    Args:
        state: the model's tensors, on any device ("meta" too).
        made: name → shape of the model that the smaller config builds.
    """
    tensors, modules = dict(state), dict(units.model.named_modules())

    def select(name: str, indices: Tensor, dim: int) -> None:
        indices = indices.flatten().sort().values.to(tensors[name].device)
        tensors[name] = tensors[name].index_select(dim, indices).contiguous()

    for group in units.groups:
        if group.kind == "blocks":
            continue
        stay = kept[group.kind, group.block]
        for name, rows in group.rows.items():
            select(f"{name}.weight", rows[stay], int(is_transposed(modules[name])))
            if f"{name}.bias" in tensors:
                select(f"{name}.bias", rows[stay], 0)
        for name, columns in group.columns.items():
            select(f"{name}.weight", columns[stay], int(not is_transposed(modules[name])))
        for name, dim in group.slices.items():
            select(name, stay, dim)
    if units.of("blocks"):
        places, names = places_that_stay(units, kept), units.blocks.names
        tensors = _renumbered(tensors, names, [names[place] for place in places])
        for name, tensor in tensors.items():
            tensors[name] = _without_slices(tensor, made.get(name), places, len(names))
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


def _without_slices(
    tensor: Tensor, made: Sequence[int] | None, places: Sequence[int], blocks: int
) -> Tensor:
    """Return a tensor that holds a slice a block (Gemma 3n's embeddings) without those that go."""
    if made is None or len(made) != tensor.dim():
        return tensor
    for dim, (size, wanted) in enumerate(zip(tensor.shape, made, strict=True)):
        if size != wanted and size % blocks == 0 and wanted * blocks == size * len(places):
            slices = torch.arange(size).reshape(blocks, -1)[list(places)].flatten()
            tensor = tensor.index_select(dim, slices.to(tensor.device))
    return tensor


def smaller_model(units: Units, kept: Mapping, config) -> nn.Module:
    """Return the model without the units that go, as plain transformers builds it.

    Args:
        config: of the smaller model, `config_search.smaller_config`.
    """
    model = empty_model(config)
    made = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    tensors = smaller_tensors(units.model.state_dict(), units, kept, made)
    model.load_state_dict(tensors, strict=True, assign=True)
    model.tie_weights()
    if getattr(units.model, "generation_config", None) is not None:
        model.generation_config = units.model.generation_config
    return model.requires_grad_(False)


def first_units(units: Units, counts: Mapping[str, int]) -> dict[tuple[str, str], Tensor]:
    """Return (kind, block) → some choice of units that go, of the right number."""
    removed = {
        (g.kind, g.block): lowest(torch.zeros(g.units), counts[g.kind], g.parts)
        for g in units.groups
        if g.kind != "blocks"
    }
    return removed | without_blocks(units, range(counts.get("blocks", 0)))


def without_blocks(units: Units, places: Sequence[int]) -> dict[tuple[str, str], Tensor]:
    """Return ("blocks", block) → the units that go, if the blocks at some places go."""
    names = [group.block for group in units.of("blocks")]
    return {("blocks", n): torch.arange(int(i in places)) for i, n in enumerate(names)}
