"""Biases for linears that have none, so that a method's `bias_shift` can make up for a mean.

They are added as zeros before anything is measured, and only where the model's config can say so
(Llama: `attention_bias`, `mlp_bias`), so that plain transformers loads what is saved.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks, linears_of

REMEDY = "remove `add_biases` from the prune profile: biases that exist are used, else the score \
alone"


def add_biases(model: nn.Module, blocks: Blocks, whole: bool) -> None:
    """Give each prunable linear without a bias one of zeros, and have the config say so.

    Args:
        model: of transformers; changed in place, its config too.
        blocks: of the model; all their linears are to have a bias.
        whole: whether the model is whole in memory.

    Raises:
        PrunegridError: the config can hold no bias of some linear, or the model is held by block.
    """
    linears = {n: m for group in blocks.groups().values() for n, m in group.items()}
    lacking = [name for name, linear in linears.items() if linear.bias is None]
    if not lacking:
        return
    where = type(model).__name__
    if not whole:
        raise PrunegridError(
            f"{len(lacking)} linears have no bias, and the model is held by block",
            where=where,
            expected="a model that is whole in memory, to add biases to it",
            remedy=f"set memory.model to whole, or {REMEDY}",
        )
    known = {n: m for n, m in linears_of(model).items() if n.startswith(tuple(blocks.names))}
    settings = _settings_of_biases(model, known)
    names = set().union(*settings.values())
    lost = [name for name in lacking if name not in names]
    if lost:
        raise PrunegridError(
            f"its config can hold no bias of {len(lost)} linears, such as {lost[0]}",
            where=where,
            expected="a setting of the config for biases, as Llama's attention_bias and mlp_bias",
            remedy=REMEDY,
        )
    for key in settings:
        setattr(model.config, key, True)
    for name in names:
        weight = known[name].weight
        zeros = torch.zeros(weight.shape[0], dtype=weight.dtype, device=weight.device)
        known[name].bias = nn.Parameter(zeros, requires_grad=weight.requires_grad)


def _settings_of_biases(
    model: nn.Module, linears: Mapping[str, nn.Module]
) -> dict[str, frozenset[str]]:
    """Return setting of the config → the linears that get a bias by it, and nothing else does."""
    kind = type(model)
    before = _tensors(kind, model.config)
    found = {}
    for key in _switches(model.config):
        config = copy.deepcopy(model.config)
        setattr(config, key, True)
        after = _tensors(kind, config)
        new = {name for name in after if name not in before}
        names = frozenset(name.removesuffix(".bias") for name in new)
        plain = all(name.endswith(".bias") for name in new) and names <= linears.keys()
        if new and plain and {n: s for n, s in after.items() if n in before} == before:
            found[key] = names
    return found


def _switches(config: Any) -> Iterable[str]:
    """Return the settings of a config that are off and speak of a bias."""
    return [key for key, value in config.to_dict().items() if value is False and "bias" in key]


def _tensors(kind: type[nn.Module], config: Any) -> dict[str, tuple[int, ...]]:
    """Return name → shape of the tensors of a config's model, which is built without weights."""
    with torch.device("meta"):
        model = kind(copy.deepcopy(config))
    return {name: tuple(value.shape) for name, value in model.named_parameters()}
