"""A whole model pruned, linear by linear, with what each recipe must know of its inputs.

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

import functools
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.models.blocks import OUTSIDE, Blocks, find_blocks, oriented
from prunegrid.pruning.dense_statistics import dense_stats
from prunegrid.pruning.hidden_states import Storage
from prunegrid.pruning.input_stats import Collector, InputStats, is_finite
from prunegrid.pruning.lockstep import prune_as_inputs_arrive
from prunegrid.pruning.model_access import WHOLE, Holding
from prunegrid.pruning.outside_blocks import Outside
from prunegrid.pruning.patterns import NM, Pattern, require_fit
from prunegrid.pruning.recipe import Pruner, Recipe
from prunegrid.pruning.replay import Replay

if TYPE_CHECKING:
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
) -> dict[str, dict[str, Any]]:
    """Return the report of pruning all linears of all blocks of `model`, in place.

    Args:
        model: on its device, in any float dtype.
        recipe: what is to be done.
        tokens: calibration windows, int64 [samples, length].
        norms: full linear name → float32 [d_in], mean x² of the dense model; for propagation
            dense of recipes that need no more, and for allocations that need them.
        propagation: see the module.
        holding: how the model is held in memory.
        hessians: of the dense model, for propagation dense; None measures them here.

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
    require_weights(blocks, recipe.general_pattern, holding)
    require_extent(blocks, recipe, propagation, holding)
    pruner = Pruner(recipe, recipe.zeros(blocks, norms, holding.weights_of))
    if blocks.outside and recipe.needs != "nothing":
        tokens = require_tokens(tokens, recipe)
    training = model.training
    model.eval()
    try:
        outside = Outside(model, blocks, pruner, tokens, propagation, hessians)
        outside.first()
        if hessians is None or pruner.recipe.needs != "hessian":
            step = _block_step(model, blocks, pruner, tokens, norms, propagation, holding.storage)
        else:
            step = functools.partial(_with_stored, blocks, hessians, pruner)
        _each_block(blocks, pruner, step, holding)
        outside.last()
        if blocks.outside and holding.done is not None:
            holding.done(OUTSIDE, recipe.extent.tensors(blocks.outside))
    finally:
        model.train(training)
    return pruner.report


def _block_step(
    model: nn.Module,
    blocks: Blocks,
    pruner: Pruner,
    tokens: Tensor | None,
    norms: Mapping[str, Tensor] | None,
    propagation: str,
    storage: Storage,
) -> Callable[[int], None]:
    """Return what prunes the block of an index."""
    needs = pruner.recipe.needs
    if needs == "nothing":
        return lambda index: _without_inputs(blocks, index, pruner)
    if propagation == "dense" and needs == "input_norms":
        stats = _stats_of_norms(blocks, norms)
        return lambda index: _with(blocks, index, stats, pruner)
    replay = Replay(model, blocks, require_tokens(tokens, pruner.recipe), storage)
    step = {"sequential": _sequential, "single-pass": _single_pass, "dense": _dense}[propagation]
    return lambda index: step(replay, index, needs, pruner)


def require_tokens(tokens: Tensor | None, recipe: Recipe) -> Tensor:
    """Return the calibration windows.

    Raises:
        PrunegridError: there are none.
    """
    if tokens is None or not len(tokens):
        raise PrunegridError(
            f"method {recipe.method} needs calibration samples and there are none",
            remedy="name a calibration in the prune profile",
        )
    return tokens


def require_weights(blocks: Blocks, pattern: Pattern, holding: Holding) -> None:
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


def require_extent(blocks: Blocks, recipe: Recipe, propagation: str, holding: Holding) -> None:
    """Check that what is outside the blocks can be pruned so.

    Raises:
        PrunegridError: it cannot.
    """
    unfit = recipe.needs != "nothing" or isinstance(recipe.general_pattern, NM)
    if recipe.extent.biases and unfit:
        raise PrunegridError(
            f"method {recipe.method} with pattern {recipe.pattern} cannot prune biases",
            expected="an unstructured pattern, and a method and update that need no inputs",
            remedy="remove `biases`",
        )
    # A block that is read from its file when the model calls it is not the pruned one.
    needy = blocks.outside and recipe.needs != "nothing" and propagation != "dense"
    if needy and not holding.whole:
        raise PrunegridError(
            f"{', '.join(blocks.outside)} need what all pruned blocks give, and the model is not "
            "held whole",
            remedy="set memory.model to whole, propagation to dense, or remove `include`",
        )


def _each_block(
    blocks: Blocks, pruner: Pruner, step: Callable[[int], None], holding: Holding
) -> None:
    """Run `step` on every block, hand on what it made and log it."""
    for index, name in enumerate(tqdm(blocks.names, desc="prune", unit="block", disable=None)):
        started = time.perf_counter()
        with holding.resident(index):
            step(index)
            if holding.done is not None:
                holding.done(name, pruner.recipe.extent.tensors(blocks.linears[name]))
        done = [pruner.report[linear] for linear in blocks.linears[name]]
        zeros = sum(facts["zeros"] for facts in done)
        total = sum(facts["shape"][0] * facts["shape"][1] for facts in done)
        log.info("%s: sparsity %.6f, %.1f s", name, zeros / total, time.perf_counter() - started)


def _without_inputs(blocks: Blocks, index: int, pruner: Pruner) -> None:
    for name, module in blocks.linears[blocks.names[index]].items():
        pruner(name, module, None)


def _with(blocks: Blocks, index: int, stats: Mapping[str, InputStats], pruner: Pruner) -> None:
    for name, module in blocks.linears[blocks.names[index]].items():
        pruner(name, module, stats[name])


def _with_stored(blocks: Blocks, hessians: StoredHessians, pruner: Pruner, index: int) -> None:
    _with(blocks, index, hessians.block(index), pruner)


def _sequential(replay: Replay, index: int, needs: str, pruner: Pruner) -> None:
    """Prune one block by the statistics of its unpruned pass, then move all samples past it."""
    blocks, samples = replay.blocks, range(len(replay.hidden))
    with Collector(blocks.linears[blocks.names[index]], needs, replay.device) as collector:
        for sample in samples:
            collector.run(sample, lambda sample=sample: replay.run(index, sample))
    _with(blocks, index, collector.finish(), pruner)
    if not replay.is_last(index):
        for sample in samples:
            replay.advance(index, sample, replay.run(index, sample))


def _dense(replay: Replay, index: int, needs: str, pruner: Pruner) -> None:
    """Prune one block by the statistics of the dense model, whose samples move on unpruned."""
    _with(replay.blocks, index, dense_stats(replay, index, needs), pruner)


def _single_pass(replay: Replay, index: int, needs: str, pruner: Pruner) -> None:
    """Prune one block's linears as their inputs arrive, and move all samples past it.

    A linear that is called again (DeBERTa's q and k, for relative positions) would be pruned before
    its second inputs are known: such a block is pruned as in `sequential`.
    """
    if index in replay.repeating:
        _sequential(replay, index, needs, pruner)
        return
    blocks = replay.blocks
    outputs = prune_as_inputs_arrive(
        blocks.linears[blocks.names[index]],
        [lambda sample=sample: replay.run(index, sample) for sample in range(len(replay.hidden))],
        needs,
        pruner,
        keep_outputs=not replay.is_last(index),
    )
    for sample, output in enumerate(outputs):
        replay.advance(index, sample, output)


def _stats_of_norms(blocks: Blocks, norms: Mapping[str, Tensor] | None) -> dict[str, InputStats]:
    """Return full linear name → statistics of the dense model, out of its input norms.

    Raises:
        PrunegridError: they are missing or do not fit.
    """
    stats = {}
    for linears in blocks.linears.values():
        for name, linear in linears.items():
            width = oriented(linear).shape[1]
            found = None if norms is None else norms.get(name)
            if found is None or list(found.shape) != [width]:
                raise PrunegridError(
                    f"input norms are {None if found is None else list(found.shape)}",
                    where=name,
                    expected=f"[{width}], from the calibration of this very model",
                )
            stats[name] = InputStats(input_norms=found)
    return stats
