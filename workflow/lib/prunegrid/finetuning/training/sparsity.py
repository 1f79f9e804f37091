"""Masks that are applied after every optimizer step, so that pruned weights stay zero.

Masking gradients is not enough: Adam's moments and weight decay move weights without a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunegrid.finetuning.training.distributed import local, share_like
from prunegrid.models.blocks import is_transposed
from prunegrid.models.experts import linear_named, weight_of


def masker(model: nn.Module, masks: dict[str, Tensor]):
    """Return two functions: they set pruned weights, and their gradients, to zero.

    Without masks, both are None.

    Args:
        masks: bool [d_out, d_in] by linear, True = kept.
    """
    if not masks:
        return None, None
    weights: list[Tensor] = []
    whole: list[list[Tensor]] = []
    for name, mask in masks.items():
        linear = linear_named(model, name)
        # The experts of a tensor come one after another: their masks make the tensor's.
        if not weights or weights[-1] is not weight_of(linear):
            weights.append(weight_of(linear))
            whole.append([])
        whole[-1].append(mask.T if is_transposed(linear) else mask)
    factors = []
    for weight, parts in zip(weights, whole, strict=True):
        mask = torch.stack(parts) if weight.dim() == 3 else parts[0]
        factors.append(share_like(mask.to(weight.dtype).contiguous(), weight).contiguous())

    def mask_weights() -> None:
        with torch.no_grad():
            torch._foreach_mul_([local(weight) for weight in weights], factors)

    def mask_gradients() -> None:
        # Without this, the norm for clipping would count the gradients of pruned weights.
        pairs = [(w.grad, f) for w, f in zip(weights, factors, strict=True) if w.grad is not None]
        torch._foreach_mul_([local(grad) for grad, _ in pairs], [f for _, f in pairs])

    return mask_weights, mask_gradients
