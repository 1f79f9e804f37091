"""Refitting of a pruned model's weights to the dense model's outputs, without labels or gradients.

For each linear, in the order in which they run, with W the weight before pruning, X its inputs in
the dense model and X̂ its inputs in the pruned one, whose earlier linears are refitted already,

    min over Ŵ with Ŵ = M ∘ Ŵ of  ‖X̂ Ŵᵀ - X Wᵀ‖² · 2/n + λ ‖Ŵ - P‖²

P is the pruned weight: directions that the calibration does not contain stay as they were. All rows
are solved together by conjugate gradients under the mask
(`prunegrid.pruning.updates.least_squares`). Linears that share an input are solved from one pass;
then the block runs again.

He et al. 2017 (Channel Pruning, arXiv 1707.06168, section 3.3) take a layer's target from the dense
model and its input from the pruned one, so that it makes up for errors of earlier layers. "A Free
Lunch in LLM Compression" (Wagner et al. 2025, arXiv 2510.14444) compares layer-wise reconstruction
of LLMs with training. Deviations: λ pulls towards P; exact least squares up to the tolerance, no
Adam; biases stay; one linear at a time, not a block.

Both models are whole in memory, whatever `memory.model` says. The hidden states follow `memory`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.common import precision
from prunegrid.common.errors import PrunegridError
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

CITE = ("he2017channel", "wagner2025free")
TRAINS = False
FITS = ("causal-lm", "seq2seq-lm", "masked-lm", "encoder")
KEYS = ("calibration",)
SETTINGS = {"dampening": 0.01, "iterations": 50, "tolerance": 1.0e-3}
MEANINGS = {
    "dampening": "The share of the mean diagonal that pulls towards the pruned weights.",
    "iterations": "The most iterations of conjugate gradients.",
    "tolerance": "The relative residual at which they end.",
}
MEMORY = 8


def transform(context: Context, settings: dict) -> checkpoint.Checkpoint:
    """Return the checkpoint of the plain folder written.

    Raises:
        PrunegridError: the dense model is another one, or activations are not finite.
    """
    parent, memory = context.checkpoint, context.job.memory
    dense = checkpoint.load(context.parents["dense"], context.device)
    stored = parent.model.dtype
    for model in (parent.model, dense.model):
        compute_in(model, precision.of_job(context.job))
    tokens = load_file(context.parents["calibration"] / "tokens.safetensors")["tokens"]
    storage = Storage(memory["activations"], memory["chunk"], context.job.scratch)
    own = {"extent": context.destination["extent"], **{name: settings[name] for name in SETTINGS}}
    context.story = refit(
        parent.model, dense.model, tokens, context.masks, context.where, storage, **own
    )
    errors = [(f["error_before"], f["error_after"]) for f in context.story.values()]
    context.facts |= {
        "tokens": tokens.numel(),
        "error_before": sum(before for before, _ in errors) / len(errors),
        "error_after": sum(after for _, after in errors) / len(errors),
    }
    model, adapter = parent.model.to("cpu", stored), parent.record["adapter"]
    return checkpoint.write_plain(model, **context.destination, adapter=adapter)


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
    _require_alike(ours.linears, theirs.linears, where)
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


def _require_alike(ours: dict, theirs: dict, where: str) -> None:
    """Check that two models have the same linears of the same shapes."""

    def shapes(blocks: dict) -> dict[str, list[int]]:
        return {n: list(oriented(m).shape) for group in blocks.values() for n, m in group.items()}

    if shapes(ours) != shapes(theirs):
        raise PrunegridError(
            "the weights before pruning are of another architecture",
            where=where,
            expected="the same linears of the same shapes",
        )
