"""Pruning of a whole model, block by block, by what each recipe must know of a linear's inputs.

Propagation says which model a linear's inputs come from (docs/reference/pruning.md): `sequential`
and `single-pass` the model pruned so far, before or inside the block; `dense` the dense model,
measured once for all cells of a grid. A method that needs no inputs runs no forward pass.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.models.blocks import OUTSIDE, Blocks, oriented
from prunegrid.models.experts import ExpertLinear
from prunegrid.pruning.bias_compensation import add_biases
from prunegrid.pruning.coverage import settled
from prunegrid.pruning.dense_statistics import StoredHessians
from prunegrid.pruning.holding import WHOLE, Holding, evaluating
from prunegrid.pruning.input_stats import InputStats, is_finite
from prunegrid.pruning.lockstep import prune_as_inputs_arrive
from prunegrid.pruning.outside_blocks import pruned_outside
from prunegrid.pruning.patterns import NM, Pattern, require_fit
from prunegrid.pruning.pruner import Chosen, Pruner
from prunegrid.pruning.recipe import Recipe
from prunegrid.pruning.replay import Replay

log = logging.getLogger(__name__)

PROPAGATIONS = ("sequential", "single-pass", "dense")


@torch.no_grad()
def prune_model(
    model: nn.Module,
    recipe: Recipe,
    *,
    tokens: Tensor | None = None,
    norms: Mapping[str, Tensor] | None = None,
    reached: Mapping[str, int] | None = None,
    propagation: str = "sequential",
    holding: Holding = WHOLE,
    hessians: StoredHessians | None = None,
    chosen: Chosen | None = None,
    done: Callable[[str, dict[str, Tensor]], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Prune all linears of all blocks of `model`, in place; return {full linear name: report}.

    Args:
        tokens: calibration windows, int64 [samples, length].
        norms: full linear name → float32 [d_in], mean x² of the dense model; for propagation
            dense of recipes that need no more, and for allocations that need them.
        reached: full name of an expert's linear → how many tokens its norms are taken over.
        propagation: one of PROPAGATIONS; see the module.
        hessians: of the dense model, for propagation dense; None measures them here.
        chosen: what another step pruned by the same criterion; None runs the criterion.
        done: is given each block's name and its pruned tensors while the block is in memory.

    Raises:
        PrunegridError: NaN in weights or activations, a pattern that does not fit a linear, a
            model that is not understood, inputs that are missing, or too much that would stay
            dense unasked (`prunegrid.pruning.coverage`).
    """
    recipe = settled(model, recipe, norms, tokens)
    blocks = recipe.extent.blocks(model)
    if recipe.adds_biases:
        add_biases(model, blocks, holding.whole)
    _require_weights(blocks, recipe.general_pattern)
    _require_extent(blocks, recipe, propagation, holding)
    pruner = Pruner(recipe, recipe.zeros(blocks, norms, holding.weights_of), chosen)
    if blocks.outside and recipe.needs != "nothing":
        _require_tokens(tokens, recipe)
    outside = pruned_outside(model, blocks, pruner, tokens, propagation, hessians)
    norm_stats = functools.partial(_stats_of_norms, blocks, norms, reached or {})
    stats_of = _known_stats(recipe.needs, norm_stats, propagation, hessians)
    with evaluating(model), outside:
        if stats_of is not None:
            step = functools.partial(_prune_by, blocks, pruner, stats_of)
        else:
            replay = Replay(model, blocks, _require_tokens(tokens, recipe), holding.storage)
            step = functools.partial(_prune_by_pass, replay, pruner, propagation)
        _each_block(blocks, pruner, step, holding, done)
    if blocks.outside and done is not None:
        done(OUTSIDE, pruner.tensors(blocks.outside))
    return pruner.report


def _known_stats(
    needs: str,
    norm_stats: Callable[[], Mapping[str, InputStats]],
    propagation: str,
    hessians: StoredHessians | None,
) -> Callable[[int], Mapping[str, InputStats] | None] | None:
    """Return a function from a block's index to its statistics; None if a pass must give them."""
    if needs == "nothing":
        return lambda index: None
    if needs not in ("nothing", "input_norms") and hessians is not None:
        return functools.partial(hessians.block, hessian="hessian" in needs)
    if needs == "input_norms" and propagation == "dense":
        stats = norm_stats()
        return lambda index: stats
    return None


def _prune_by(blocks: Blocks, pruner: Pruner, stats_of: Callable, index: int) -> None:
    """Prune one block by statistics that are known."""
    pruner.prune_all(blocks.linears[blocks.names[index]], stats_of(index))


def _prune_by_pass(replay: Replay, pruner: Pruner, propagation: str, index: int) -> None:
    """Prune one block by the statistics of a pass, and move all samples past it."""
    needs = pruner.recipe.needs
    if propagation == "dense":
        pruner.prune_all(replay.linears(index), replay.dense_stats(index, needs))
    # A linear that is called again (DeBERTa's q and k, for relative positions) would be pruned
    # before its second inputs are known.
    # Experts are reached by other samples each.
    elif (
        propagation == "sequential"
        or index in replay.repeating
        or any(isinstance(linear, ExpertLinear) for linear in replay.linears(index).values())
    ):
        pruner.prune_all(replay.linears(index), replay.stats(index, needs))
        replay.advance_all(index)
    else:
        prune_as_inputs_arrive(replay, index, pruner)


def _require_tokens(tokens: Tensor | None, recipe: Recipe) -> Tensor:
    """Return the calibration windows, after checking that there are any."""
    if tokens is None or not len(tokens):
        raise PrunegridError(
            f"method {recipe.method} needs calibration samples and there are none",
            remedy="name a calibration in the prune profile",
        )
    return tokens


def _require_weights(blocks: Blocks, pattern: Pattern) -> None:
    """Check that every linear is finite and can have the pattern, before any work."""
    for linears in blocks.groups().values():
        for name, module in linears.items():
            weight = oriented(module)
            require_fit(pattern, weight.shape[1], name)
            # One that is not in memory was measured on its file, which finds NaN too.
            if weight.device.type != "meta" and not is_finite(weight):
                raise PrunegridError(
                    "the weight holds NaN or infinity",
                    where=name,
                    expected="finite weights",
                    remedy="the model is broken: use another file or revision of it",
                )


def _require_extent(blocks: Blocks, recipe: Recipe, propagation: str, holding: Holding) -> None:
    """Check the propagation, and that biases and what is outside the blocks can be pruned by it."""
    if propagation not in PROPAGATIONS:
        raise PrunegridError(
            f"there is no propagation '{propagation}'", remedy=nearest(propagation, PROPAGATIONS)
        )
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
                done(name, pruner.tensors(blocks.linears[name]))
        reports = [pruner.report[linear] for linear in blocks.linears[name]]
        zeros = sum(facts["zeros"] for facts in reports)
        total = sum(facts["shape"][0] * facts["shape"][1] for facts in reports)
        seconds = time.perf_counter() - started
        log.info("%s: %d of %d weights are zero, %.1f s", name, zeros, total, seconds)


def _stats_of_norms(
    blocks: Blocks, norms: Mapping[str, Tensor] | None, reached: Mapping[str, int]
) -> dict[str, InputStats]:
    """Return full linear name → statistics of the dense model, from its input norms."""
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
            stats[name] = InputStats(reached.get(name), norm)
    return stats
