"""Pruning of a whole model, block by block, by what each recipe must know of a linear's inputs.

Propagation says which model a linear's inputs come from:
`sequential` (the papers): per block, one pass of the unpruned block gives the statistics of all its
linears, they are pruned, and the pruned block computes the next block's input.
`single-pass`: each linear is pruned when its input first arrives, so its statistics are those of
everything pruned before it, inside the block too; half the work, an approximation of the papers
(a block that calls a linear twice is pruned sequentially).
`dense`: statistics of the dense model, measured once for all cells of a grid (input norms by the
stage `calibration`, Hessians by the stage `hessians`): an approximation. A method that needs no
inputs gives the same result in each, and runs no forward pass.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.models.blocks import OUTSIDE, Blocks, find_blocks, oriented
from prunegrid.pruning.input_stats import InputStats, is_finite
from prunegrid.pruning.lockstep import prune_as_inputs_arrive
from prunegrid.pruning.model_access import WHOLE, Holding
from prunegrid.pruning.outside_blocks import pruned_outside
from prunegrid.pruning.patterns import NM, Pattern, require_fit
from prunegrid.pruning.recipe import Pruner, Recipe
from prunegrid.pruning.replay import Replay
from prunegrid.pruning.stored_hessians import StoredHessians

log = logging.getLogger(__name__)

PROPAGATIONS = ("sequential", "single-pass", "dense")


@torch.no_grad()
def prune_model(
    model: nn.Module,
    recipe: Recipe,
    *,
    tokens: Tensor | None = None,
    norms: Mapping[str, Tensor] | None = None,
    propagation: str = "sequential",
    holding: Holding = WHOLE,
    hessians: StoredHessians | None = None,
    done: Callable[[str, dict[str, Tensor]], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Prune all linears of all blocks of `model`, in place; return the report.

    Args:
        model: on its device, in any float dtype.
        tokens: calibration windows, int64 [samples, length].
        norms: full linear name → float32 [d_in], mean x² of the dense model; for propagation
            dense of recipes that need no more, and for allocations that need them.
        propagation: one of PROPAGATIONS; see the module.
        holding: how the model is held in memory.
        hessians: of the dense model, for propagation dense; None measures them here.
        done: is given each block's name and its pruned tensors while the block is in memory.

    Returns:
        full linear name → {shape, zeros, sparsity, …}.

    Raises:
        PrunegridError: NaN in weights or activations, a pattern that does not fit a linear, a
            model that is not understood, or inputs that are missing.
    """
    blocks = find_blocks(model, include=recipe.extent.include)
    if propagation not in PROPAGATIONS:
        raise PrunegridError(
            f"there is no propagation '{propagation}'", remedy=nearest(propagation, PROPAGATIONS)
        )
    _require_weights(blocks, recipe.general_pattern)
    _require_extent(blocks, recipe, propagation, holding)
    pruner = Pruner(recipe, recipe.zeros(blocks, norms, holding.weights_of))
    if blocks.outside and recipe.needs != "nothing":
        _require_tokens(tokens, recipe)
    training = model.training
    model.eval()
    try:
        with pruned_outside(model, blocks, pruner, tokens, propagation, hessians):
            if recipe.needs == "hessian" and hessians is not None:
                step = _step_by(blocks, pruner, hessians.block)
            else:
                step = _step(model, blocks, pruner, tokens, norms, propagation, holding)
            _each_block(blocks, pruner, step, holding, done)
        if blocks.outside and done is not None:
            done(OUTSIDE, recipe.extent.tensors(blocks.outside))
    finally:
        model.train(training)
    return pruner.report


def _step(
    model: nn.Module,
    blocks: Blocks,
    pruner: Pruner,
    tokens: Tensor | None,
    norms: Mapping[str, Tensor] | None,
    propagation: str,
    holding: Holding,
) -> Callable[[int], None]:
    """Return a function that prunes the block of an index, the blocks in their order."""
    needs = pruner.recipe.needs
    if needs == "nothing":
        return _step_by(blocks, pruner, lambda index: None)
    if propagation == "dense" and needs == "input_norms":
        stats = _stats_of_norms(blocks, norms)
        return _step_by(blocks, pruner, lambda index: stats)
    replay = Replay(model, blocks, _require_tokens(tokens, pruner.recipe), holding.storage)
    if propagation == "dense":
        return _step_by(blocks, pruner, lambda index: replay.dense_stats(index, needs))
    propagate = {"sequential": _sequential, "single-pass": _single_pass}[propagation]
    return lambda index: propagate(replay, index, pruner)


def _step_by(
    blocks: Blocks, pruner: Pruner, stats_of: Callable[[int], Mapping[str, InputStats] | None]
) -> Callable[[int], None]:
    """Return a function that prunes the block of an index by its statistics."""
    return lambda index: pruner.prune_all(blocks.linears[blocks.names[index]], stats_of(index))


def _require_tokens(tokens: Tensor | None, recipe: Recipe) -> Tensor:
    """Return the calibration windows, after checking that there are any."""
    if tokens is None or not len(tokens):
        raise PrunegridError(
            f"method {recipe.method} needs calibration samples and there are none",
            remedy="name a calibration in the prune profile",
        )
    return tokens


def _require_weights(blocks: Blocks, pattern: Pattern) -> None:
    """Check that every linear is finite and can have the pattern, before any work.

    A model that is not in memory was measured on its files, which finds NaN and infinity too.
    """
    for linears in blocks.groups().values():
        for name, module in linears.items():
            weight = oriented(module)
            require_fit(pattern, weight.shape[1], name)
            if weight.device.type != "meta" and not is_finite(weight):
                raise PrunegridError(
                    "the weight holds NaN or infinity",
                    where=name,
                    expected="finite weights",
                    remedy="the model is broken: use another file or revision of it",
                )


def _require_extent(blocks: Blocks, recipe: Recipe, propagation: str, holding: Holding) -> None:
    """Check that biases and what is outside the blocks can be pruned by this recipe."""
    needs_inputs = recipe.needs != "nothing"
    if recipe.extent.biases and (needs_inputs or isinstance(recipe.general_pattern, NM)):
        raise PrunegridError(
            f"method {recipe.method} with pattern {recipe.pattern} cannot prune biases",
            expected="an unstructured pattern, and a method and update that need no inputs",
            remedy="remove `biases`",
        )
    # A block that is read from its file when the model calls it is not the pruned one.
    if blocks.outside and needs_inputs and propagation != "dense" and not holding.whole:
        raise PrunegridError(
            f"{', '.join(blocks.outside)} need what all pruned blocks give, and the model is not "
            "held whole",
            remedy="set memory.model to whole, propagation to dense, or remove `include`",
        )


def _each_block(
    blocks: Blocks,
    pruner: Pruner,
    step: Callable[[int], None],
    holding: Holding,
    done: Callable[[str, dict[str, Tensor]], None] | None,
) -> None:
    """Prune every block, hand its tensors to `done`, and log its sparsity."""
    for index, name in enumerate(tqdm(blocks.names, desc="prune", unit="block", disable=None)):
        started = time.perf_counter()
        with holding.resident(index):
            step(index)
            if done is not None:
                done(name, pruner.recipe.extent.tensors(blocks.linears[name]))
        reports = [pruner.report[linear] for linear in blocks.linears[name]]
        zeros = sum(facts["zeros"] for facts in reports)
        total = sum(facts["shape"][0] * facts["shape"][1] for facts in reports)
        log.info("%s: sparsity %.6f, %.1f s", name, zeros / total, time.perf_counter() - started)


def _sequential(replay: Replay, index: int, pruner: Pruner) -> None:
    """Prune one block by the statistics of its unpruned pass, then move all samples past it."""
    blocks = replay.blocks
    linears = blocks.linears[blocks.names[index]]
    pruner.prune_all(linears, replay.stats(index, pruner.recipe.needs))
    replay.advance_all(index)


def _single_pass(replay: Replay, index: int, pruner: Pruner) -> None:
    """Prune one block's linears as their inputs arrive, and move all samples past it.

    A linear that is called again (DeBERTa's q and k, for relative positions) would be pruned before
    its second inputs are known: such a block is pruned as in `sequential`.
    """
    if index in replay.repeating:
        _sequential(replay, index, pruner)
        return
    blocks = replay.blocks
    outputs = prune_as_inputs_arrive(
        blocks.linears[blocks.names[index]],
        [lambda sample=sample: replay.run(index, sample) for sample in replay.samples],
        pruner.recipe.needs,
        pruner,
        keep_outputs=not replay.is_last(index),
    )
    for sample, output in enumerate(outputs):
        replay.advance(index, sample, output)


def _stats_of_norms(blocks: Blocks, norms: Mapping[str, Tensor] | None) -> dict[str, InputStats]:
    """Return full linear name → statistics of the dense model, from its input norms.

    Raises:
        PrunegridError: they are missing or do not fit.
    """
    stats = {}
    for linears in blocks.linears.values():
        for name, linear in linears.items():
            width = oriented(linear).shape[1]
            norm = None if norms is None else norms.get(name)
            if norm is None or list(norm.shape) != [width]:
                raise PrunegridError(
                    f"input norms are {None if norm is None else list(norm.shape)}",
                    where=name,
                    expected=f"[{width}], from the calibration of this very model",
                )
            stats[name] = InputStats(input_norms=norm)
    return stats
