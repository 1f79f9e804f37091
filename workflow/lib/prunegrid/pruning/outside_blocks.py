"""Linears outside the blocks that a profile includes, pruned by what the model gives them.

`sequential` and `single-pass`: those before the first block are pruned first, so that all blocks
see what they give; those behind the last one last, by what the pruned blocks give. `dense`: all by
the inputs in the dense model. Each costs the samples a forward pass of the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks
from prunegrid.models.forward import device_of, run_window
from prunegrid.pruning.block_calls import PROBE_TOKENS
from prunegrid.pruning.dense_statistics import OUTSIDE, StoredHessians, stats_in_model
from prunegrid.pruning.input_stats import InputStats, watching
from prunegrid.pruning.pruner import Pruner


def _before_and_behind(
    model: nn.Module, blocks: Blocks, tokens: Tensor
) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """Return the linears outside that run before the first block, and those behind the last."""
    order: list[str] = []
    named = {**dict(zip(blocks.names, blocks.modules, strict=True)), **blocks.outside}
    with watching(named, lambda name, _args: order.append(name)):
        run_window(model, tokens[:1, :PROBE_TOKENS].to(device_of(model)))
    places = [place for place, name in enumerate(order) if name not in blocks.outside]
    before = set(order[: places[0]])
    behind = set(order[places[-1] + 1 :])
    for name in blocks.outside:
        if (name in before) == (name in behind) or order.count(name) > 1:
            raise PrunegridError(
                "the linear runs between blocks, more than once, or not at all",
                where=name,
                expected="one call a pass, before the first block or behind the last",
                remedy="leave it out of `include`, or use a method that needs no inputs",
            )
    outside = blocks.outside.items()
    return {n: m for n, m in outside if n in before}, {n: m for n, m in outside if n in behind}


def _require_reached(
    linears: Mapping[str, nn.Module], stats: Mapping[str, InputStats] | None
) -> None:
    for name in linears if stats is not None else ():
        if name not in stats:
            raise PrunegridError(
                "no calibration sample reaches the linear",
                where=name,
                remedy="leave it out of `include`, or use a method that needs no inputs",
            )


@contextlib.contextmanager
def pruned_outside(
    model: nn.Module,
    blocks: Blocks,
    pruner: Pruner,
    tokens: Tensor | None,
    propagation: str,
    hessians: StoredHessians | None,
) -> Iterator[None]:
    """Prune the linears outside: on entering those before the blocks, on leaving the others.

    Args:
        model: all but its blocks is in memory.
        tokens, propagation, hessians: as `layerwise.prune_model` is given them.

    Raises:
        PrunegridError: a linear runs between the blocks, or not at all.
    """
    needs = pruner.recipe.needs
    before, behind, stats = {}, blocks.outside, None
    if behind and needs != "nothing":
        if propagation != "dense":
            before, behind = _before_and_behind(model, blocks, tokens)
        elif needs not in ("nothing", "input_norms") and hessians is not None:
            stats = hessians.block(OUTSIDE, hessian="hessian" in needs)
        else:
            stats = stats_in_model(model, behind, tokens, needs)
        _require_reached(behind, stats)

    def prune(linears: Mapping[str, nn.Module]) -> None:
        if stats is None and linears and needs != "nothing":
            pruner.prune_all(linears, stats_in_model(model, linears, tokens, needs))
        else:
            pruner.prune_all(linears, stats)

    prune(before)
    yield
    prune(behind)
