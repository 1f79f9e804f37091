"""A whole model pruned, linear by linear, with what each method must know of its inputs.

Propagation says which model a linear's inputs come from:
`sequential` (the papers): per block, one pass of the unpruned block gives the statistics of all its
linears, they are pruned, and the pruned block computes the next block's input.
`single-pass`: each linear is pruned when its input first arrives, so its statistics are those of
everything pruned before it, inside the block too; half the work, an approximation of the papers.
`dense`: input norms of the dense model, measured once and shared by all cells of a grid.
A method that needs no inputs gives the same result in each, and runs no forward pass.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.attest import nm_violations
from prunegrid.blocks import Blocks, find_blocks, oriented
from prunegrid.errors import PrunegridError, nearest
from prunegrid.input_stats import Collector, InputStats, is_finite
from prunegrid.patterns import (
    NM,
    Pattern,
    count_zeros,
    require_fit,
    zeros_asked,
    zeros_expected,
)
from prunegrid.pruning import method_module, method_settings
from prunegrid.pruning.lockstep import prune_as_inputs_arrive
from prunegrid.pruning.replay import Replay

log = logging.getLogger(__name__)

PROPAGATIONS = ("sequential", "single-pass", "dense")


@dataclass
class LinearPruner:
    """Prunes single linears in place by one method and keeps the report.

    Attributes:
        report: full linear name → {zeros, shape, sparsity, and the method's facts}.
    """

    method: ModuleType
    pattern: Pattern
    settings: dict[str, Any]
    seed: int
    report: dict[str, dict[str, Any]]

    def __call__(self, name: str, module: nn.Module, stats: InputStats | None) -> None:
        """Prune one linear in place and check its counts.

        Raises:
            PrunegridError: the result does not have the pattern.
        """
        weight = oriented(module)
        generator = None
        if self.method.DRAWS:
            # A seed of its own by name: the order of the linears plays no part.
            digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        pruned, facts = self.method.prune_linear(
            weight, stats, self.pattern, generator=generator, **self.settings
        )
        zeros = count_zeros(pruned)
        self._require_counts(name, weight, pruned, zeros, facts)
        weight.copy_(pruned)
        self.report[name] = {
            "shape": list(pruned.shape),
            "zeros": zeros,
            "sparsity": zeros / pruned.numel(),
            **facts,
        }

    def _require_counts(
        self, name: str, before: Tensor, after: Tensor, zeros: int, facts: Mapping[str, Any]
    ) -> None:
        """Check the zeros of a pruned weight: exact, or for updates no fewer than asked."""
        fault = ""
        if not is_finite(after):
            fault = "the pruned weight holds NaN or infinity"
        elif isinstance(self.pattern, NM) and nm_violations(
            after, self.pattern.keep, self.pattern.group
        ):
            fault = f"groups hold more than {self.pattern.keep} of {self.pattern.group} weights"
        elif self.method.UPDATES:
            # Beyond the count only weights that were zero, or whose input is, may be zero.
            asked = zeros_asked(self.pattern, *after.shape)
            spare = count_zeros(before) + facts.get("dead_inputs", 0) * len(after)
            if not asked <= zeros <= asked + spare:
                fault = f"{zeros} zeros where {asked} were asked for"
        elif zeros != zeros_expected(self.pattern, before):
            fault = f"{zeros} zeros where {zeros_expected(self.pattern, before)} were expected"
        if fault:
            raise PrunegridError(
                fault, where=name, remedy="the method's result is wrong: please report it"
            )


@torch.no_grad()
def prune_model(
    model: nn.Module,
    method: str,
    pattern: Pattern,
    *,
    tokens: Tensor | None = None,
    norms: Mapping[str, Tensor] | None = None,
    propagation: str = "sequential",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Return the report of pruning all linears of all blocks of `model`, in place.

    Args:
        model: on its device, in any float dtype.
        method: name of a pruning method.
        pattern: what goes in each linear.
        tokens: calibration windows, int64 [samples, length]; for sequential and single-pass.
        norms: full linear name → float32 [d_in], mean x² of the dense model; for dense.
        propagation: see the module.
        settings: the method's own settings, over its defaults.
        seed: for methods that draw.

    Returns:
        full linear name → {shape, zeros, sparsity, …}.

    Raises:
        PrunegridError: NaN in weights or activations, a pattern that does not fit a linear, a
            model that is not understood, or inputs that are missing.
    """
    module = method_module(method)
    pruner = LinearPruner(module, pattern, method_settings(method, dict(settings or {})), seed, {})
    blocks = find_blocks(model)
    if propagation not in PROPAGATIONS:
        raise PrunegridError(
            f"there is no propagation '{propagation}'", remedy=nearest(propagation, PROPAGATIONS)
        )
    _require_weights(blocks, pattern)
    training = model.training
    model.eval()
    try:
        step = _block_step(model, blocks, pruner, method, tokens, norms, propagation)
        _each_block(blocks, pruner, step)
    finally:
        model.train(training)
    return pruner.report


def _block_step(
    model: nn.Module,
    blocks: Blocks,
    pruner: LinearPruner,
    method: str,
    tokens: Tensor | None,
    norms: Mapping[str, Tensor] | None,
    propagation: str,
) -> Callable[[int], None]:
    """Return what prunes the block of an index."""
    needs = pruner.method.NEEDS
    if needs == "nothing":
        return lambda index: _without_inputs(blocks, index, pruner)
    if propagation == "dense":
        stats = _dense_stats(blocks, method, pruner.method, norms)
        return lambda index: _with(blocks, index, stats, pruner)
    if tokens is None or not len(tokens):
        raise PrunegridError(
            f"method {method} needs calibration samples and there are none",
            remedy="name a calibration in the prune profile",
        )
    replay = Replay(model, blocks, tokens)
    step = _sequential if propagation == "sequential" else _single_pass
    return lambda index: step(replay, index, needs, pruner)


def _require_weights(blocks: Blocks, pattern: Pattern) -> None:
    """Check that every linear is finite and can have the pattern, before any work."""
    for linears in blocks.linears.values():
        for name, module in linears.items():
            weight = oriented(module)
            require_fit(pattern, weight.shape[1], name)
            if not is_finite(weight):
                raise PrunegridError(
                    "the weight holds NaN or infinity",
                    where=name,
                    expected="finite weights",
                    remedy="the model is broken: use another file or revision of it",
                )


def _each_block(blocks: Blocks, pruner: LinearPruner, step: Callable[[int], None]) -> None:
    """Run `step` on every block and log what came out of it."""
    for index, name in enumerate(tqdm(blocks.names, desc="prune", unit="block", disable=None)):
        started = time.perf_counter()
        step(index)
        done = [pruner.report[linear] for linear in blocks.linears[name]]
        zeros = sum(facts["zeros"] for facts in done)
        total = sum(facts["shape"][0] * facts["shape"][1] for facts in done)
        log.info("%s: sparsity %.6f, %.1f s", name, zeros / total, time.perf_counter() - started)


def _without_inputs(blocks: Blocks, index: int, pruner: LinearPruner) -> None:
    for name, module in blocks.linears[blocks.names[index]].items():
        pruner(name, module, None)


def _with(
    blocks: Blocks, index: int, stats: Mapping[str, InputStats], pruner: LinearPruner
) -> None:
    for name, module in blocks.linears[blocks.names[index]].items():
        pruner(name, module, stats[name])


def _sequential(replay: Replay, index: int, needs: str, pruner: LinearPruner) -> None:
    """Prune one block by the statistics of its unpruned pass, then move all samples past it."""
    blocks = replay.blocks
    device = replay.hidden[0].device
    samples = range(len(replay.hidden))
    with Collector(blocks.linears[blocks.names[index]], needs, device) as collector:
        for sample in samples:
            collector.run(sample, lambda sample=sample: replay.run(index, sample))
    _with(blocks, index, collector.finish(), pruner)
    if index + 1 < len(blocks.names):
        for sample in samples:
            replay.advance(index, sample, replay.run(index, sample))


def _single_pass(replay: Replay, index: int, needs: str, pruner: LinearPruner) -> None:
    """Prune one block's linears as their inputs arrive, and move all samples past it."""
    blocks = replay.blocks
    outputs = prune_as_inputs_arrive(
        blocks.linears[blocks.names[index]],
        [lambda sample=sample: replay.run(index, sample) for sample in range(len(replay.hidden))],
        needs,
        pruner,
        keep_outputs=index + 1 < len(blocks.names),
    )
    for sample, output in enumerate(outputs):
        replay.advance(index, sample, output)


def _dense_stats(
    blocks: Blocks, method: str, module: ModuleType, norms: Mapping[str, Tensor] | None
) -> dict[str, InputStats]:
    """Return full linear name → statistics of the dense model.

    Raises:
        PrunegridError: the method needs more than norms, or they are missing or do not fit.
    """
    if module.NEEDS != "input_norms":
        raise PrunegridError(
            f"propagation dense gives input norms, and method {method} needs the {module.NEEDS}",
            remedy="use propagation sequential or single-pass",
        )
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
