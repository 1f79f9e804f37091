"""What a recipe leaves dense: by choice it may be anything, unasked at most `LIMIT` of a model.

Routers stay dense, and linears that `exclude` names. Two kinds stay dense unasked: matrices that no
linear holds, and, under a method or allocation that needs inputs, linears that no calibration
sample reaches (Mamba's `dt_proj`, whose weight is used without a call). Their share is told, and
beyond the limit it is refused.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks
from prunegrid.models.experts import ExpertLinear
from prunegrid.models.forward import device_of, run_window
from prunegrid.models.prunable import Extent
from prunegrid.pruning.holding import evaluating
from prunegrid.pruning.input_stats import unreached
from prunegrid.pruning.recipe import Recipe

log = logging.getLogger(__name__)

# Of the matrix weights of all blocks.
LIMIT = 0.02
NUMBER = re.compile(r"(?<=[._])\d+(?=\.)")
MOST = 8  # names that an error lists


def settled(
    model: nn.Module, recipe: Recipe, norms: Mapping[str, Any] | None, tokens: Tensor | None
) -> Recipe:
    """Return the recipe, in its extent the linears that the model never calls.

    Args:
        norms: by full linear name, of those that the calibration reached; None runs the model.
        tokens: calibration windows, int64 [samples, length].

    Raises:
        PrunegridError: more than `LIMIT` would stay dense unasked, and the recipe forbids it.
    """
    if recipe.reads_inputs and (norms is not None or tokens is not None):
        extent, blocks = recipe.extent, recipe.extent.blocks(model)
        if norms is None:
            uncalled = _never_called(model, blocks, tokens)
        else:
            uncalled = [name for name in _callable(blocks) if name not in norms]
        extent = replace(extent, uncalled=(*extent.uncalled, *uncalled))
        recipe = replace(recipe, extent=extent)
    _require_covered(model, recipe)
    return recipe


@torch.no_grad()
def _never_called(model: nn.Module, blocks: Blocks, tokens: Tensor) -> list[str]:
    """Return the names of the linears that no window reaches; most models need one window."""

    def forward(window: Tensor) -> None:
        run_window(model, window[None].to(device_of(model)))

    with evaluating(model):
        return unreached(_callable(blocks), tokens, forward, blocks.twins)


def _callable(blocks: Blocks) -> dict[str, nn.Module]:
    """Return the linears but those of fused experts: one that no token reaches is pruned too."""
    linears = blocks.all_linears().items()
    return {name: linear for name, linear in linears if not isinstance(linear, ExpertLinear)}


def _require_covered(model: nn.Module, recipe: Recipe) -> None:
    shares, dense = recipe.extent.shares(model), left_dense(recipe.extent, model)
    asked = shares["prunable_share"] + shares["excluded_share"] + shares["router_share"]
    kinds = {"no linear holds it": dense["unprunable"], "never called": dense["uncalled"]}
    listing = "; ".join(f"{_listed(shapes)}: {why}" for why, shapes in kinds.items() if shapes)
    if not listing:
        return
    text = f"{1 - asked:.1%} of the blocks' matrix weights stay dense unasked ({listing})"
    if 1 - asked > LIMIT and not recipe.allow_unprunable:
        more = "calibrate on more samples, " if dense["uncalled"] else ""
        raise PrunegridError(
            text,
            where=type(model).__name__,
            expected=f"at most {LIMIT:.0%}",
            remedy=f"{more}name them in `exclude`, or set `allow_unprunable: true`, in the prune "
            "profile",
        )
    log.warning("%s", text)


def left_dense(extent: Extent, model: nn.Module) -> dict[str, dict[str, list[int]]]:
    """Return {unprunable, excluded, routers, uncalled}: each full name → shape, as stored."""
    blocks = extent.blocks(model)
    kinds: dict[str, Mapping[str, Tensor]] = {
        "unprunable": blocks.others,
        "excluded": {n: w for n, w in blocks.excluded.items() if n not in extent.uncalled},
        "routers": blocks.routers,
        "uncalled": {n: w for n, w in blocks.excluded.items() if n in extent.uncalled},
    }
    return {kind: {n: list(w.shape) for n, w in found.items()} for kind, found in kinds.items()}


def _listed(shapes: Mapping[str, list[int]]) -> str:
    """Return names and shapes, those that differ by a block's or an expert's number together."""
    alike = Counter((NUMBER.sub("*", name), tuple(shape)) for name, shape in shapes.items())
    told = [f"{name} {list(shape)} × {count}" for (name, shape), count in alike.items()]
    return ", ".join(told[:MOST]) + (f" and {len(told) - MOST} more" if told[MOST:] else "")
