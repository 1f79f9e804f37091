"""The mask applied again after every step: zeros stay zero whatever the optimizer does.

Gradient masks alone leak: Adam's moments and weight decay move what they hide.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunegrid.finetuning.training.distributed import local, share_like


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
        factors.append(share_like(laid.to(weight.dtype).contiguous(), weight).contiguous())

    def mask_weights() -> None:
        with torch.no_grad():
            torch._foreach_mul_([local(weight) for weight in weights], factors)

    def mask_gradients() -> None:
        # Else the norm that gradients are clipped to would count those of pruned weights.
        known = [(w.grad, f) for w, f in zip(weights, factors, strict=True) if w.grad is not None]
        torch._foreach_mul_([local(grad) for grad, _ in known], [f for _, f in known])

    return mask_weights, mask_gradients
