"""Linears outside the blocks that a profile includes, pruned by what the model gives them.

`sequential` and `single-pass`: those before the first block are pruned first, so that all blocks
see what they give; those behind the last one last, by what the pruned blocks give. `dense`: all by
the inputs in the dense model. Each costs the samples a forward pass of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks
from prunegrid.models.forward import device_of, run_window
from prunegrid.pruning.input_stats import Collector, InputStats
from prunegrid.pruning.recipe import Pruner
from prunegrid.pruning.replay import PROBE_TOKENS

if TYPE_CHECKING:
    from prunegrid.pruning.stored_hessians import StoredHessians


def stats_outside(
    model: nn.Module, linears: Mapping[str, nn.Module], tokens: Tensor, needs: str
) -> dict[str, InputStats]:
    """Return full linear name → statistics of its inputs in the model as it is now."""
    device = device_of(model)
    with Collector(linears, needs, device) as collector:
        for sample, window in enumerate(tokens):
            collector.run(sample, lambda w=window: run_window(model, w[None].to(device)))
    return collector.finish()


def before_and_behind(
    model: nn.Module, blocks: Blocks, tokens: Tensor
) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """Return the linears outside that run before the first block, and those behind the last.

    Raises:
        PrunegridError: one runs in between, or not at all.
    """
    order: list[str] = []
    named = {**dict(zip(blocks.names, blocks.modules, strict=True)), **blocks.outside}
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: order.append(name))
        for name, module in named.items()
    ]
    try:
        run_window(model, tokens[:1, :PROBE_TOKENS].to(device_of(model)))
    finally:
        for handle in handles:
            handle.remove()
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
    chosen = blocks.outside.items()
    return {n: m for n, m in chosen if n in before}, {n: m for n, m in chosen if n in behind}


class Outside:
    """Prunes the linears outside the blocks when their turn comes; nothing where there are none.

    Args:
        model: with its blocks, of which all linears but theirs are in memory.
        blocks: its blocks and the linears outside.
        pruner: prunes each.
        tokens: calibration windows, int64 [samples, length]; None for methods that need none.
        how: the propagation, see `prunegrid.pruning.layerwise`.
        hessians: of the dense model, measured before; None measures them here.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Blocks,
        pruner: Pruner,
        tokens: Tensor | None,
        how: str,
        hessians: StoredHessians | None = None,
    ) -> None:
        self._model, self._pruner, self._tokens = model, pruner, tokens
        self._needs = pruner.recipe.needs
        self._first: dict[str, nn.Module] = {}
        self._last = blocks.outside
        self._stats: dict[str, InputStats] = {}
        if not blocks.outside or self._needs == "nothing":
            return
        if how == "dense" and hessians is not None and self._needs == "hessian":
            self._stats = hessians.outside()
        elif how == "dense":
            self._stats = stats_outside(model, self._last, tokens, self._needs)
        else:
            self._first, self._last = before_and_behind(model, blocks, tokens)

    @torch.no_grad()
    def first(self) -> None:
        """Prune what runs before the blocks."""
        self._prune(self._first)

    @torch.no_grad()
    def last(self) -> None:
        """Prune the others."""
        self._prune(self._last)

    def _prune(self, linears: Mapping[str, nn.Module]) -> None:
        stats: Mapping[str, InputStats | None] = dict.fromkeys(linears)
        if linears and self._needs != "nothing":
            stats = self._stats or stats_outside(self._model, linears, self._tokens, self._needs)
        for name, module in linears.items():
            self._pruner(name, module, stats[name])
