"""Refitting of a pruned model to the dense one, a part of a block or a whole block at a time.

Both models walk block by block side by side. A part's targets are what its module gives in the
dense model for the dense model's inputs. Its inputs are those in the model refitted so far. Both
are collected once. Then its kept weights are fitted (`finetuning.part_fitting`), and the next part
gets the refitted outputs. A module that adds the residual itself (BERT's, T5's, BLOOM's) has it on
both sides of the difference; most give their part of it alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.common.determinism import derived_seed
from prunegrid.common.errors import PrunegridError
from prunegrid.finetuning import part_fitting
from prunegrid.finetuning.part_fitting import Problem, Run
from prunegrid.models.blocks import is_transposed
from prunegrid.models.experts import ExpertLinear, one_by_one, stored_name, weight_of
from prunegrid.models.prunable import BLOCKS_ONLY, Extent
from prunegrid.pruning import block_parts, paired_inputs
from prunegrid.pruning.block_calls import Call, shared
from prunegrid.pruning.block_parts import Part
from prunegrid.pruning.holding import ON_DEVICE, Boundary, Storage
from prunegrid.pruning.input_stats import activations_error, is_finite
from prunegrid.pruning.replay import Replay

PARTS = {"submodule": block_parts.parts_of, "block": block_parts.whole}


@dataclass(frozen=True)
class Budget:
    """The settings of the fits.

    Attributes:
        learning_rates: all are tried on the first block; later ones keep what was best there.
        epochs: passes over the windows.
        batch_size: windows of a step.
        held_out: the share of the windows that are never trained on.
    """

    learning_rates: Sequence[float]
    epochs: int
    batch_size: int
    held_out: float

    def share_out(self, windows: int, where: str) -> tuple[range, range]:
        """Return the numbers of the windows to train on, and of the last ones, held out.

        Raises:
            PrunegridError: one of the two is empty.
        """
        held = round(windows * self.held_out)
        if not 0 < self.held_out < 1 or not 0 < held < windows:
            raise PrunegridError(
                f"held_out is {self.held_out:g}, which is {held} of {windows} calibration windows",
                where=where,
                expected="a share between 0 and 1 that leaves at least one window on either side",
                remedy="set finetune.held_out to 0.125, or draw more calibration samples",
            )
        return range(windows - held), range(windows - held, windows)


def refit(
    model: nn.Module,
    dense: nn.Module,
    tokens: Tensor,
    masks: dict[str, Tensor],
    where: str,
    storage: Storage = ON_DEVICE,
    extent: Extent = BLOCKS_ONLY,
    *,
    grain: str,
    budget: Budget,
    seed: int,
    dtype: torch.dtype = torch.float32,
    autocast: bool = False,
) -> dict[str, dict[str, Any]]:
    """Refit the linears of `model` in place that are not left dense; return {part: facts}.

    Norms, biases, routers and embeddings stay as they are.

    Args:
        model: the pruned model, in eval mode, in float32.
        dense: the model before pruning, on the same device, in float32.
        tokens: int64 [samples, length].
        masks: bool [d_out, d_in] by linear, True = kept; {} keeps all places.
        where: label for errors.
        storage: of the hidden states of both.
        extent: says which linears pruning left dense: they stay as they are.
        grain: "submodule" or "block".
        seed: of the order of windows.
        dtype: that the weights will be stored in; each part is rounded to it when it is done.
        autocast: multiply in bfloat16.

    Raises:
        PrunegridError: the models have different linears, there are too few windows, or activations
            are not finite.
        Diverged: the loss of a part is not finite at any learning rate.
    """
    ours, theirs = extent.blocks(model), extent.blocks(dense)
    paired_inputs.require_alike(ours.linears, theirs.linears, where)
    train, held = budget.share_out(len(tokens), where)
    # Windows are read in random order: one at a time.
    storage = replace(storage, chunk=1)
    model.requires_grad_(False)
    dense.requires_grad_(False)
    # A cache of narrowed weights would outlive the steps that change them.
    kind, on = next(model.parameters()).device.type, {"enabled": autocast, "cache_enabled": False}
    narrow = torch.autocast(kind, torch.bfloat16, **on)
    with torch.no_grad(), narrow, one_by_one(model), one_by_one(dense):
        near, far = Replay(model, ours, tokens, storage), Replay(dense, theirs, tokens, storage)
        walk = _Walk(near, far, masks, storage, budget, seed, dtype, train, held)
        for index in tqdm(range(len(ours.names)), desc="refit", unit="block", disable=None):
            walk.refit_block(index, PARTS[grain](far, index))
    return walk.story


@dataclass
class _Walk:
    """Both models on their way through the blocks.

    Attributes:
        story: part → facts.
        rates: stack of blocks and part's place in a block → the learning rate that was best first.
    """

    near: Replay
    far: Replay
    masks: Mapping[str, Tensor]
    storage: Storage
    budget: Budget
    seed: int
    dtype: torch.dtype
    train: range
    held: range
    story: dict[str, dict[str, Any]] = field(default_factory=dict)
    rates: dict[tuple[str, str], float] = field(default_factory=dict)

    def refit_block(self, index: int, parts: Sequence[Part]) -> None:
        """Refit the parts of block `index`, and move all samples of both models past it."""
        targets = self._targets(index, parts)
        for part in parts:
            self._refit_part(index, part, targets.pop(part.name))
        self.near.advance_all(index)

    def _targets(self, index: int, parts: Sequence[Part]) -> dict[str, Boundary]:
        """Return part → the dense outputs; the dense model's samples move past the block."""
        far = self.far
        modules = {part.name: part.module(far.blocks.modules[index]) for part in parts}
        targets = {name: Boundary(len(far.samples), far.device, self.storage) for name in modules}
        for sample in far.samples:
            output, given = block_parts.outputs_of(modules, lambda s=sample: far.run(index, s))
            for name, value in given.items():
                if not is_finite(value):
                    raise activations_error(f"{name}, calibration sample {sample}")
                targets[name][sample] = value
            if not far.is_last(index):
                far.advance(index, sample, output)
        return targets

    def _refit_part(self, index: int, part: Part, targets: Boundary) -> None:
        near = self.near
        module = part.module(near.blocks.modules[index])
        inputs = Boundary(len(near.samples), near.device, self.storage)
        calls: list[Call] = []
        for sample in near.samples:
            inputs[sample], call = block_parts.call_of(module, lambda s=sample: near.run(index, s))
            calls.append(shared(call, calls[0]) if calls else call)

        def run(sample: int) -> Tensor:
            return calls[sample].run(module, inputs[sample])

        weights, kept = _weights(near.linears(index), part, self.masks)
        problem = Problem(part.name, weights, kept, run, targets, self.train, self.held, self.dtype)
        place = (near.blocks.names[index].rpartition(".")[0], part.path)
        known = self.rates.get(place)
        runs, before = part_fitting.fit(
            problem,
            _in_order(self.budget.learning_rates, known),
            epochs=self.budget.epochs,
            batch_size=self.budget.batch_size,
            seed=derived_seed(self.seed, part.name),
            every=known is None,
        )
        self.story[part.name] = _facts(part, runs, before)
        rate = self.story[part.name]["learning_rate"]
        if known is None and rate is not None:
            self.rates[place] = rate


def _in_order(rates: Sequence[float], known: float | None) -> list[float]:
    """Return the rates to try: all; or the known one, and lower ones in case that it diverges."""
    lower = sorted((rate for rate in rates if known is None or rate <= known), reverse=True)
    return list(rates) if known is None else lower


def _weights(
    linears: Mapping[str, nn.Module], part: Part, masks: Mapping[str, Tensor]
) -> tuple[dict[str, nn.Parameter], dict[str, Tensor]]:
    """Return the parameters of a part's linears by name, and where each may change.

    The experts of a tensor share a parameter; those that were left dense may not change.
    """
    weights: dict[str, nn.Parameter] = {}
    kept: dict[str, Tensor] = {}
    for name in part.linears:
        linear = linears[name]
        stored = stored_name(name, linear)
        weight = weights.setdefault(stored, weight_of(linear))
        whole = kept.setdefault(stored, torch.zeros_like(weight, dtype=torch.bool))
        place = whole[linear.index] if isinstance(linear, ExpertLinear) else whole
        mask = masks[name] if masks else torch.ones_like(place)
        place.copy_(mask.t() if masks and is_transposed(linear) else mask)
    return weights, kept


def _facts(part: Part, runs: Sequence[Run], before: float) -> dict[str, Any]:
    """Return what is recorded of a part: errors are of the held-out windows."""
    best = min((run for run in runs if run.best is not None), key=Run.lowest, default=None)
    return {
        "linears": list(part.linears),
        "error_before": before,
        "error_after": before if best is None else best.lowest(),
        "learning_rate": None if best is None else best.rate,
        "kept_epoch": 0 if best is None else 1 + best.errors.index(best.lowest()),
        "tries": [
            {"learning_rate": run.rate, "errors": run.finite(), "diverged": run.diverged}
            for run in runs
        ],
    }


def summary(story: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means of the parts' errors, and counts of parts, for the record of the step."""
    facts = list(story.values())
    rates = [f["learning_rate"] for f in facts]
    return {
        "parts_refitted": len(facts) - rates.count(None),
        "parts_unchanged": rates.count(None),
        "parts_by_learning_rate": {
            f"{rate:g}": rates.count(rate) for rate in sorted({r for r in rates if r is not None})
        },
        "runs_diverged": sum(run["diverged"] for f in facts for run in f["tries"]),
        **mean_errors(story),
    }


def mean_errors(story: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the means of `error_before` and `error_after`."""
    keys = ("error_before", "error_after")
    return {key: sum(facts[key] for facts in story.values()) / len(story) for key in keys}
