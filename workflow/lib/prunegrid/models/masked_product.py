"""The masked product of LoRA: x (W + M ∘ s B A)ᵀ, its gradients, and the memory that they take.

With g the gradient of the output, those of the factors are s (M ∘ gᵀx) Aᵀ and s Bᵀ (M ∘ gᵀx): the
mask needs all of gᵀx, so a masked step has a full matrix product more than a plain one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class FormedProduct(torch.autograd.Function):
    """x Wᵀ for a W without a gradient, which `form` gives again in backward: it is not saved."""

    @staticmethod
    def forward(ctx, x, form):
        ctx.form, ctx.dtype = form, x.dtype
        return F.linear(x, form())

    @staticmethod
    def backward(ctx, grad):
        return grad.to(ctx.dtype) @ ctx.form(), None


class MaskedProduct(torch.autograd.Function):
    """x (W + M ∘ s B A)ᵀ, with gradients for x, A and B; `form` gives the sum in either pass."""

    @staticmethod
    def forward(ctx, x, form, a, b, bits, scale, scratch):
        ctx.form, ctx.scale, ctx.scratch = form, scale, scratch
        ctx.save_for_backward(x, a, b, bits)
        return F.linear(x, form())

    @staticmethod
    def backward(ctx, grad):
        x, a, b, bits = ctx.saved_tensors
        grad, grad_x = grad.to(x.dtype), None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ ctx.form()
        # [d_out, d_in]: the gradient of the masked product, of which those of its factors are made.
        product = ctx.scratch.empty("gradient", bits.shape, x.dtype, x.device)
        torch.mm(grad.reshape(-1, grad.shape[-1]).T, x.reshape(-1, x.shape[-1]), out=product)
        under_mask(bits, product, ctx.scratch)
        # The factors are small, so the scale is for them.
        grad_b = (product @ a.to(x.dtype).T).to(b.dtype).mul_(ctx.scale)
        grad_a = (b.to(x.dtype).T @ product).to(a.dtype).mul_(ctx.scale)
        return grad_x, None, grad_a, grad_b, None, None, None


class Scratch:
    """Memory for what is made and used up within one call, the same for all layers of a model.

    On a CPU new memory of a weight's size costs as much as what is computed in it.
    """

    def __init__(self) -> None:
        self._tensors: dict[tuple[str, torch.dtype], Tensor] = {}

    def empty(
        self, purpose: str, shape: torch.Size, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """Return a tensor that the next call for the same purpose overwrites."""
        if device.type != "cpu":
            return torch.empty(shape, dtype=dtype, device=device)
        key, size = (purpose, dtype), shape.numel()
        if key not in self._tensors or self._tensors[key].numel() < size:
            with torch.inference_mode(False):
                self._tensors[key] = torch.empty(size, dtype=dtype)
        return self._tensors[key][:size].view(shape)


_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def under_mask(bits: Tensor, weight: Tensor, scratch: Scratch) -> Tensor:
    """Return the weight, set to zero in place where `bits` (int8: -1 = kept, 0) is 0.

    -1 has every bit set in any width, and `and` is faster than a product on the CPU.
    """
    integers = weight.view(_INTEGERS[weight.element_size()])
    wide = scratch.empty("mask", bits.shape, integers.dtype, bits.device)
    integers &= wide.copy_(bits)
    return weight


def masked_sum(
    base: Tensor | None, factors: tuple, bits: Tensor | None, scratch: Scratch, out=None
):
    """Return base + mask ∘ scale · b a in the factors' dtype, [d_out, d_in].

    Args:
        base: [d_out, d_in]; None is zero.
        factors: a [rank, d_in], b [d_out, rank] and the scale.
        bits: of `under_mask`; None keeps all.
        out: where it is written; None makes a new tensor.
    """
    a, b, scale = factors
    with torch.no_grad(), torch.autocast(a.device.type, enabled=False):
        weight = torch.mm(b * scale, a, out=out)
        if bits is not None:
            under_mask(bits, weight, scratch)
        return weight if base is None else weight.add_(base)
