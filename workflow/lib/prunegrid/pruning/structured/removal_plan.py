"""How many units of which kinds go, and what the smaller model is, before it is known which."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks, find_blocks
from prunegrid.models.forward import is_encoder_decoder
from prunegrid.models.prunable import Extent
from prunegrid.pruning.structured import shapes
from prunegrid.pruning.structured.unit_counts import Kind, removed_units
from prunegrid.pruning.structured.units import Group, find_groups


@dataclass(frozen=True)
class Plan:
    """What is to go, before it is known which units.

    Attributes:
        blocks, groups: of the model, every kind and block.
        counts: kind → units that every layer loses (of blocks: the model).
    """

    blocks: Blocks
    groups: list[Group]
    counts: dict[str, int]

    @property
    def linears(self) -> dict[str, nn.Module]:
        """Full name → linear of all blocks."""
        return {n: m for group in self.blocks.linears.values() for n, m in group.items()}

    def units(self, kind: str) -> int:
        """Return how many units of a kind there are: in a layer, of blocks in the model."""
        of_kind = [group for group in self.groups if group.kind == kind]
        return len(of_kind) if kind == "blocks" else of_kind[0].units


def removed_from(record: Mapping[str, Any]) -> Extent:
    """Return the extent of weights made of those with this record by removing some."""
    extent = Extent.of(record)
    if extent.prunable_before is not None:
        return extent
    return replace(
        extent,
        prunable_before=record["prunable_parameters"],
        parameters_before=record["parameters"],
    )


def plan_of(
    model: nn.Module, record: Mapping[str, Any], settings: Mapping, probe: Tensor, where: str
) -> Plan:
    """Return how many units go, after checking that the architecture can say what stays.

    Args:
        record: the WEIGHTS RECORD of the model.
        probe: int64 [1, length].

    Raises:
        PrunegridError: it cannot, or not so many.
    """
    if is_encoder_decoder(model):
        raise PrunegridError(
            "units of an encoder-decoder are not removed",
            where=type(model).__name__,
            expected="a model with one stack of blocks",
        )
    blocks = find_blocks(model)
    device = next(model.parameters()).device
    groups = [
        group
        for kind in settings["units"]
        for group in find_groups(model, blocks, kind, probe.to(device))
    ]
    plan = Plan(blocks, groups, {})
    kinds = _kinds(plan)

    def fewer_heads(count: int) -> bool:
        heads = [group for group in groups if group.kind == "heads"]
        kept = shapes.first_units(heads, {"heads": kinds["heads"].units - count})
        with contextlib.suppress(PrunegridError):
            shapes.smaller_config(model, shapes.changes_for(model, blocks, heads, kept))
            return True
        return False

    goal, prunable = _goal(settings, record, where), record["prunable_parameters"]
    counts = removed_units(kinds, goal, prunable, fewer_heads, settings["multiple"], where)
    stay = {kind: kinds[kind].units - count for kind, count in counts.items()}
    kept = shapes.first_units(groups, stay)
    config = shapes.smaller_config(model, shapes.changes_for(model, blocks, groups, kept))
    ghosts = {name: value.to("meta") for name, value in model.state_dict().items()}
    ghosts = shapes.smaller_tensors(ghosts, model, blocks, groups, kept)
    shapes.require_expressed(model, config, ghosts)
    return replace(plan, counts=counts)


def _goal(settings: Mapping, record: Mapping[str, Any], where: str) -> int:
    """Return how many prunable weights the model is to lose."""
    dense = removed_from(record).prunable_before
    lost = dense - record["prunable_parameters"]
    goal = round(settings["sparsity"] * dense) - lost
    if goal <= 0:
        raise PrunegridError(
            f"sparsity {settings['sparsity']} is asked for, and {lost / dense:.4f} of the weights "
            "are gone already",
            where=where,
            expected="more than that: it is the share of the dense model's prunable weights",
        )
    return goal


def _kinds(plan: Plan) -> dict[str, Kind]:
    found = {}
    for group in plan.groups:
        layers = 1 if group.kind == "blocks" else len(plan.blocks.names)
        found[group.kind] = Kind(plan.units(group.kind), group.weights(plan.linears), layers)
    return found
