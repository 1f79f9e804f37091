"""Masks that are applied after every optimizer step, so that pruned weights stay zero.

Masking gradients is not enough: Adam's moments and weight decay move weights without a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunegrid.finetuning.training.distributed import local, share_like


def masker(model: nn.Module, masks: dict[str, Tensor]):
    """Return two functions: they set pruned weights, and their gradients, to zero.

    Without masks, both are None.

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
        factors.append(share_like(laid.to(weight.dtype).contiguous(), weight).contiguous())

    def mask_weights() -> None:
        with torch.no_grad():
            torch._foreach_mul_([local(weight) for weight in weights], factors)

    def mask_gradients() -> None:
        # Without this, the norm for clipping would count the gradients of pruned weights.
        pairs = [(w.grad, f) for w, f in zip(weights, factors, strict=True) if w.grad is not None]
        torch._foreach_mul_([local(grad) for grad, _ in pairs], [f for _, f in pairs])

    return mask_weights, mask_gradients
