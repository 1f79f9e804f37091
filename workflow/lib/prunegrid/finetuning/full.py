"""Full fine-tuning: every weight is trained, and the mask is applied again after every step.

Gradient masks alone leak: Adam's moments and weight decay move what they hide. Weights are
trained in float32 whatever the artifact's dtype is, and saved in the artifact's dtype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from prunegrid import checkpoint, training

if TYPE_CHECKING:
    from prunegrid.stages.finetune import Context

TRAINS = True
KEYS = ("sparsity",)
MEMORY = 28
COPY = 4


def masker(model: nn.Module, masks: dict[str, Tensor]):
    """Return two functions that set masked weights, and their gradients, to zero; Nones without.

    Args:
        masks: bool [d_out, d_in] by linear, True = kept.
    """
    if not masks:
        return None, None
    modules = {name: model.get_submodule(name) for name in masks}
    weights = [modules[name].weight for name in masks]
    factors = []
    for (name, mask), weight in zip(masks.items(), weights, strict=True):
        # Conv1D keeps its weight as [d_in, d_out].
        laid = mask.T if type(modules[name]).__name__ == "Conv1D" else mask
        factors.append(laid.to(weight.device, weight.dtype).contiguous())

    def mask_weights() -> None:
        with torch.no_grad():
            torch._foreach_mul_(weights, factors)

    def mask_gradients() -> None:
        # Else the norm that gradients are clipped to would count those of pruned weights.
        torch._foreach_mul_(
            [w.grad for w in weights if w.grad is not None],
            [f for w, f in zip(weights, factors, strict=True) if w.grad is not None],
        )

    return mask_weights, mask_gradients


def tune(context: Context, settings: dict) -> tuple[training.TrainFacts, checkpoint.Checkpoint]:
    """Return the training facts and the plain folder written, read back."""
    parent = context.checkpoint
    model = parent.model
    dtype = model.dtype
    model.float()
    mask_weights, mask_gradients = masker(model, context.masks)
    facts = context.train(model, after_step=mask_weights, before_clip=mask_gradients)
    model.to(dtype)
    return facts, checkpoint.write_plain(
        model,
        parent.tokenizer,
        context.out,
        parent.record["pattern"],
        adapter="none",
        extent=context.extent,
    )
