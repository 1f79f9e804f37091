"""Attention heads of linears of any form, found by what a config with fewer heads makes smaller.

DeepSeek's latent attention has neither three linears of one input nor rows that are queries alone;
but with fewer heads the same linears are built with fewer rows or columns, a share a head.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunegrid.models.blocks import Blocks, find_blocks, oriented
from prunegrid.models.experts import ExpertLinear
from prunegrid.pruning.offload import empty_model
from prunegrid.pruning.structured.config_settings import path_of, setting, with_changes
from prunegrid.pruning.structured.unit_groups import Group


def heads_by_config(model: nn.Module, blocks: Blocks) -> list[Group]:
    """Return the key-value groups of the blocks that have some; none if no config says fewer."""
    heads = setting(model.config, "num_attention_heads")
    units = setting(model.config, "num_key_value_heads") or heads
    if not isinstance(heads, int) or not isinstance(units, int) or heads % units:
        return []
    number, shared = (
        path_of(model.config, f"num_{kind}_heads") for kind in ("attention", "key_value")
    )
    for stay in range(units - 1, 0, -1):
        changes = {shared: stay} if setting(model.config, "num_key_value_heads") else {}
        try:
            built = empty_model(
                with_changes(model.config, changes | {number: heads // units * stay})
            )
        except Exception:  # each architecture checks its shapes in its own way
            continue
        small = find_blocks(built).linears
        groups = (
            _group(block, linears, small.get(block, {}), units, stay)
            for block, linears in blocks.linears.items()
        )
        return [group for group in groups if group is not None]
    return []


def _group(
    block: str,
    linears: Mapping[str, nn.Module],
    small: Mapping[str, nn.Module],
    units: int,
    stay: int,
) -> Group | None:
    """Return the groups of a block whose linears have other shapes in a model of fewer heads."""
    tables: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for name in (name for name in linears if name in small):
        sizes, fewer = oriented(linears[name]).shape, oriented(small[name]).shape
        if isinstance(linears[name], ExpertLinear) and sizes != fewer:
            return None  # heads of experts are parts of one tensor
        for size, less, table in zip(sizes, fewer, tables, strict=True):
            if size * stay == less * units:
                table[name] = torch.arange(size).reshape(units, -1)
    return Group("heads", block, units, *tables) if all(tables) else None
