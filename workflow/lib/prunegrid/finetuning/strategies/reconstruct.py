"""Refitting of a pruned model's weights to the dense model's outputs, without labels.

`grain` says what is refitted at once. At each, W is the weight before pruning, x are the inputs in
the dense model and x̂ those in the pruned one, whose earlier parts are refitted already. Pruned
places stay zero. Only the kept weights of prunable linears change: norms and biases stay.

linear (the default)
    One linear at a time, in the order in which they run:

        min over Ŵ with Ŵ = M ∘ Ŵ of  ‖X̂ Ŵᵀ - X Wᵀ‖² · 2/n + λ ‖Ŵ - P‖²

    P is the pruned weight: directions that the calibration does not contain stay as they were. All
    rows are solved together by conjugate gradients under the mask
    (`prunegrid.pruning.updates.least_squares`). Linears that share an input are solved from one
    pass; then the block runs again.
submodule
    A block's attention and its MLP apart (`prunegrid.pruning.block_parts`), in order:

        min over the kept weights of  ‖f_part(x̂; W∘M) - f_part_dense(x)‖²

    by Adam (`prunegrid.finetuning.part_fitting`). The part is the module, so the residual is in
    neither term unless the module adds it itself.
block
    The whole block at once, in the same way; its output has the residual.

He et al. 2017 (Channel Pruning, arXiv 1707.06168, section 3.3) take a layer's target from the dense
model and its input from the pruned one, so that it makes up for errors of earlier layers. "A Free
Lunch in LLM Compression" (Wagner et al. 2025, arXiv 2510.14444; read in its abstract alone)
compares the grains: from one nonlinear sub-module on they are about equal, and better than single
matrices. EBFT (Guo et al. 2024, arXiv 2402.12419) is grain block: Adam, batches of 8, at most 10
epochs, learning rate 2e-4. Deviations: at grain linear λ pulls towards P, and the fit is exact to
the tolerance. At the others the learning rate is chosen on windows held out from the
calibration and falls linearly. The best epoch on them is kept, "no change" among them.

Both models are whole in memory, whatever `memory.model` says. The hidden states follow `memory`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.common import precision
from prunegrid.finetuning import part_refit
from prunegrid.models import checkpoint
from prunegrid.models.blocks import oriented
from prunegrid.models.loading import compute_in
from prunegrid.models.prunable import BLOCKS_ONLY, Extent
from prunegrid.pruning import paired_inputs
from prunegrid.pruning.column_sweep import dampened
from prunegrid.pruning.holding import ON_DEVICE, Storage
from prunegrid.pruning.replay import Replay
from prunegrid.pruning.updates.least_squares import conjugate_gradients

if TYPE_CHECKING:
    from prunegrid.finetuning.transform_context import Context

CITE = ("he2017channel", "wagner2025free", "guo2024ebft")
TRAINS = False
FITS = ("causal-lm", "seq2seq-lm", "masked-lm", "encoder")
KEYS = ("calibration", "learning_rates", "epochs", "batch_size")
SETTINGS = {
    "grain": "linear",
    "dampening": 0.01,
    "iterations": 50,
    "tolerance": 1.0e-3,
    "learning_rates": [3.0e-4, 1.0e-3, 3.0e-3, 1.0e-2],
    "epochs": 3,
    "batch_size": 2,
    "held_out": 0.125,
}
MEANINGS = {
    "grain": "What is refitted at once: a linear, a submodule (attention, MLP) or a block.",
    "dampening": "The share of the mean diagonal that pulls towards the pruned weights.",
    "iterations": "The most iterations of conjugate gradients.",
    "tolerance": "The relative residual at which they end.",
    "learning_rates": "Learning rates that the first block tries; the held-out error chooses one.",
    "epochs": "Passes over the calibration windows.",
    "batch_size": "Calibration windows of a step.",
    "held_out": "The share of the calibration windows that are never trained on.",
}
CHOICES = {
    "grain": {
        "linear": ("dampening", "iterations", "tolerance"),
        "submodule": ("learning_rates", "epochs", "batch_size", "held_out"),
        "block": ("learning_rates", "epochs", "batch_size", "held_out"),
    }
}
DRAWS = {"grain": ("submodule", "block")}
MEMORY = 8


def transform(context: Context, settings: dict) -> checkpoint.Checkpoint:
    """Return the checkpoint of the plain folder written.

    Raises:
        PrunegridError: the dense model is another one, activations are not finite, or there are too
            few calibration windows to hold some out.
        Diverged: the loss of a part is not finite at any learning rate.
    """
    parent = context.checkpoint
    dense = checkpoint.load(context.parents["dense"], context.device)
    stored = parent.model.dtype
    tokens = load_file(context.parents["calibration"] / "tokens.safetensors")["tokens"]
    context.facts["tokens"] = tokens.numel()
    refit_all = _refit_linears if settings["grain"] == "linear" else _refit_parts
    refit_all(context, settings, dense.model, tokens)
    model, adapter = parent.model.to("cpu", stored), parent.record["adapter"]
    return checkpoint.write_plain(model, **context.destination, adapter=adapter)


def _refit_linears(context: Context, settings: dict, dense: nn.Module, tokens: Tensor) -> None:
    """Refit the context's model linear by linear; put what is recorded into the context."""
    model = context.checkpoint.model
    for one in (model, dense):
        compute_in(one, precision.of_job(context.job))
    own = {name: settings[name] for name in CHOICES["grain"]["linear"]}
    story = refit(model, dense, tokens, context.masks, context.where, **_places(context), **own)
    context.story = story
    context.facts |= part_refit.mean_errors(story)


def _refit_parts(context: Context, settings: dict, dense: nn.Module, tokens: Tensor) -> None:
    """Refit the context's model part by part; put what is recorded into the context."""
    model, job = context.checkpoint.model, context.job
    budget = {name: settings[name] for name in CHOICES["grain"][settings["grain"]]}
    stored = model.dtype
    # Adam's steps are too small for weights in bfloat16.
    context.parts = part_refit.refit(
        model.float(), dense.float(), tokens, context.masks, context.where, **_places(context),
        grain=settings["grain"], budget=part_refit.Budget(**budget), seed=job.seed("reconstruct"),
        dtype=stored, autocast=precision.of_job(job) == "bfloat16",
    )  # fmt: skip
    context.facts |= part_refit.summary(context.parts)


def _places(context: Context) -> dict[str, Any]:
    """Return where hidden states are held, and what is refitted."""
    return {"storage": Storage.of(context.job), "extent": context.destination["extent"]}


@torch.no_grad()
def refit(
    model: nn.Module,
    dense: nn.Module,
    tokens: Tensor,
    masks: dict[str, Tensor],
    where: str,
    storage: Storage = ON_DEVICE,
    extent: Extent = BLOCKS_ONLY,
    **settings: Any,
) -> dict[str, dict[str, Any]]:
    """Refit the linears of `model` in place that are not left dense; return {linear: facts}.

    Args:
        model: the pruned model, in eval mode.
        dense: the model before pruning, on the same device.
        tokens: int64 [samples, length].
        masks: bool [d_out, d_in] by linear, True = kept; {} keeps all places.
        where: label for errors.
        storage: of the hidden states of both.
        extent: says which linears pruning left dense: they stay as they are.
        settings: dampening, iterations, tolerance.

    Raises:
        PrunegridError: the models have different linears, or activations are not finite.
    """
    ours, theirs = extent.blocks(model), extent.blocks(dense)
    paired_inputs.require_alike(ours.linears, theirs.linears, where)
    near, far = Replay(model, ours, tokens, storage), Replay(dense, theirs, tokens, storage)
    facts: dict[str, dict[str, Any]] = {}
    for index, block in enumerate(tqdm(ours.names, desc="refit", unit="block", disable=None)):
        pruned, before = ours.linears[block], theirs.linears[block]
        for names in paired_inputs.groups(before, lambda index=index: far.run(index, 0)):
            sums = _sums(near, far, index, {n: pruned[n] for n in names}, before)
            for name in names:
                weight, target = oriented(pruned[name]), oriented(before[name])
                kept = masks[name] if masks else torch.ones_like(weight, dtype=torch.bool)
                goal = (target.float() @ sums.cross, sums.targets[name])
                new, facts[name] = refit_linear(weight, kept, sums.hessian, *goal, **settings)
                weight.copy_(new)
        if not near.is_last(index):
            for sample in range(len(tokens)):
                near.advance(index, sample, near.run(index, sample))
                far.advance(index, sample, far.run(index, sample))
    return facts


def _sums(
    near: Replay, far: Replay, index: int, ours: dict[str, nn.Module], theirs: dict[str, nn.Module]
) -> paired_inputs.Paired:
    """Return the sums, over all samples, of the input that some linears of a block share."""
    name, module = next(iter(ours.items()))
    weights = {other: oriented(theirs[other]) for other in ours}
    sums = paired_inputs.Paired(weights, oriented(module).shape[1], near.device)
    for sample in range(len(near.hidden)):
        (x,) = paired_inputs.inputs_of(
            {name: theirs[name]}, lambda sample=sample: far.run(index, sample)
        )[name]
        (y,) = paired_inputs.inputs_of(
            {name: module}, lambda sample=sample: near.run(index, sample)
        )[name]
        sums.add(x, y, f"{name}, calibration sample {sample}")
    return sums.finish()


def refit_linear(
    pruned: Tensor,
    kept: Tensor,
    gram: Tensor,
    wanted: Tensor,
    target: float,
    *,
    dampening: float,
    iterations: int,
    tolerance: float,
) -> tuple[Tensor, dict[str, Any]]:
    """Return the refitted weight [d_out, d_in] and {error_before, error_after, iterations, …}.

    The errors are ‖X̂ Ŵᵀ - X Wᵀ‖² / ‖X Wᵀ‖², without λ's term.

    Args:
        pruned: P [d_out, d_in] of any float dtype, zero where `kept` is False.
        gram: (2/n) X̂ᵀX̂, float32 [d_in, d_in].
        wanted: (2/n) W XᵀX̂, float32 [d_out, d_in].
        target: (2/n) ‖X Wᵀ‖².
        dampening: λ as a fraction of the mean diagonal of `gram`.
        iterations: most steps.
        tolerance: of the residual's norm over all rows, relative to its start.
    """
    start, mask = pruned.float(), kept.float()
    hessian = dampened(gram.clone(), dampening)
    # λ pulls towards where it starts, so it adds nothing to the residual there.
    residual = (wanted - start @ gram).mul_(mask)
    solution, facts = conjugate_gradients(
        start, residual, hessian, mask, iterations=iterations, tolerance=tolerance
    )
    new = (solution * mask).to(pruned.dtype)
    before, after = (_error(weight, gram, wanted, target) for weight in (start, new.float()))
    return new, {"error_before": before, "error_after": after, **facts}


def _error(weight: Tensor, gram: Tensor, wanted: Tensor, target: float) -> float:
    product = weight @ gram - 2 * wanted
    total = float((weight * product).sum(dtype=torch.float64)) + target
    return max(total, 0.0) / target if target else 0.0
