"""Several cells of a grid pruned at once, by the statistics of their dense model.

The Hessians of a whole model are too large to be kept (0.5 GB for OPT-125m, and they grow with the
square of the width), so the dense model is run block by block, and each block's Hessians serve all
cells before the next block's take their place.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.models.blocks import OUTSIDE, find_blocks
from prunegrid.pruning.dense_statistics import dense_stats
from prunegrid.pruning.layerwise import require_extent, require_tokens, require_weights
from prunegrid.pruning.model_access import WHOLE, Holding
from prunegrid.pruning.outside_blocks import stats_outside
from prunegrid.pruning.recipe import NEEDS, Pruner, Recipe
from prunegrid.pruning.replay import Replay

log = logging.getLogger(__name__)


@torch.no_grad()
def prune_together(
    model: nn.Module,
    recipes: Sequence[Recipe],
    tokens: Tensor,
    keep: Callable[[int, str, dict[str, Tensor]], None],
    *,
    norms: Mapping[str, Tensor] | None = None,
    holding: Holding = WHOLE,
) -> list[dict[str, dict[str, Any]]]:
    """Return each recipe's report; the model itself is not changed.

    Args:
        model: on its device.
        recipes: what is to be done, each to the dense model.
        tokens: calibration windows, int64 [samples, length].
        keep: is given a recipe's place, a block's name, and the block's pruned weights
            [d_out, d_in] by full linear name, block after block; those of linears outside the
            blocks first, under the name OUTSIDE.
        norms: mean x² of the dense model by full linear name, for allocations that need them.
        holding: how the model is held in memory.

    Raises:
        PrunegridError: as `prunegrid.pruning.layerwise.prune_model`.
    """
    each = [find_blocks(model, include=recipe.extent.include) for recipe in recipes]
    blocks = each[0]
    pruners = []
    for recipe, its in zip(recipes, each, strict=True):
        require_weights(its, recipe.general_pattern, holding)
        require_extent(its, recipe, "dense", holding)
        pruners.append(Pruner(recipe, recipe.zeros(its, norms, holding.weights_of)))
    needs = max((recipe.needs for recipe in recipes), key=NEEDS.index)
    training = model.training
    model.eval()
    try:
        tokens = require_tokens(tokens, recipes[0])
        included = {name: module for its in each for name, module in its.outside.items()}
        outside = stats_outside(model, included, tokens, needs) if included else {}
        for place, (pruner, its) in enumerate(zip(pruners, each, strict=True)):
            if its.outside:
                pruned = {n: pruner.pruned(n, m, outside[n]) for n, m in its.outside.items()}
                keep(place, OUTSIDE, pruned)
        replay = Replay(model, blocks, tokens, holding.storage)
        for index, name in enumerate(tqdm(blocks.names, desc="prune", unit="block", disable=None)):
            began = time.perf_counter()
            with holding.resident(index):
                stats = dense_stats(replay, index, needs)
                measured = time.perf_counter() - began
                for place, pruner in enumerate(pruners):
                    linears = blocks.linears[name]
                    found = {n: pruner.pruned(n, m, stats[n]) for n, m in linears.items()}
                    keep(place, name, found)
            seconds = time.perf_counter() - began
            text = "%s: %d cells, %.1f s (%.1f s of it statistics)"
            log.info(text, name, len(pruners), seconds, measured)
    finally:
        model.train(training)
    return [pruner.report for pruner in pruners]
