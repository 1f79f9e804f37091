"""LoRA whose product is under the pruning mask: h = x (W + M ∘ (α/r) B A)ᵀ + b.

Hu et al. 2021 (LoRA), arXiv 2106.09685: h = x Wᵀ + (α/r) x Aᵀ Bᵀ. A plain adapter merged into a
pruned W fills its zeros. Here the product B A is multiplied with the mask M (True = kept) from the
first training step on, so what is trained is what is merged, and the zeros stay exactly zero.

Deviations: without a mask the usual low-rank product is computed; with one, the masked sum is
formed and multiplied once (one matrix product forward, two backward, as in full fine-tuning).
With dropout in training the base and the adapter's product are separate. The base may be
quantized: it is dequantized in every pass (under 2% of a training step on the CPU). In inference
the sum may be formed once and kept, where `allow_cache` says so: the same numbers, more memory.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from peft.tuners import lora
from safetensors.torch import load_file
from torch import Tensor, nn

from prunegrid import artifacts
from prunegrid.errors import PrunegridError

ADAPTER = "default"
# What peft puts before the name of a linear in the adapter's file.
PREFIX = "base_model.model."


class _MaskedProduct(torch.autograd.Function):
    """x (W + M ∘ s B A)ᵀ, with gradients for x, A and B; the sum is formed again in backward."""

    @staticmethod
    def forward(ctx, x, base, a, b, mask, scale):
        ctx.base, ctx.scale = base, scale
        ctx.save_for_backward(x, a, b, mask)
        return F.linear(x, _sum(base, a, b, mask, scale, x.dtype))

    @staticmethod
    def backward(ctx, grad):
        x, a, b, mask = ctx.saved_tensors
        grad, grad_x = grad.to(x.dtype), None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ _sum(ctx.base, a, b, mask, ctx.scale, x.dtype)
        # [d_out, d_in]: the gradient of the masked product, then of its two factors.
        product = grad.reshape(-1, grad.shape[-1]).T @ x.reshape(-1, x.shape[-1])
        product = _under(mask, product).mul_(ctx.scale)
        grad_b = (product @ a.to(product.dtype).T).to(b.dtype)
        grad_a = (b.to(product.dtype).T @ product).to(a.dtype)
        return grad_x, None, grad_a, grad_b, None, None


def _under(mask: Tensor, weight: Tensor) -> Tensor:
    """Return the weight, set to zero in place where the mask (bool, True = kept) is False."""
    # Bytes are cast to floats five times as fast as truth values are, on the CPU.
    return weight.mul_(mask.view(torch.uint8).to(weight.dtype))


def _sum(base, a, b, mask, scale, dtype) -> Tensor:
    """Return base + mask ∘ scale · b a, summed in the factors' dtype, then cast."""
    device = a.device.type
    with torch.autocast(device, enabled=False):
        weight = torch.mm(b, a).mul_(scale)
        if mask is not None:
            _under(mask, weight)
        if base is not None:
            weight.add_(base() if callable(base) else base)
    return weight.to(dtype)


class MaskedLinear(lora.layer.Linear):
    """A peft LoRA layer over a Linear, Conv1D or packed linear, with its product under a mask.

    Attributes:
        kept: bool [d_out, d_in], True = kept; None leaves the product dense.
        cache: keep the sum of base and product in memory between passes of inference.
    """

    def __init__(
        self, base_layer, adapter_name: str, config, r: int = 0, lora_alpha: int = 1, **kw
    ):
        super().__init__(base_layer, adapter_name, config=config, r=r, lora_alpha=lora_alpha, **kw)
        self.transposed = type(base_layer).__name__ == "Conv1D"
        self.fan_in_fan_out = self.transposed
        self.register_buffer("kept", None, persistent=False)
        self.cache = False
        self._sum_cache: Tensor | None = None

    def train(self, mode: bool = True):
        """Return the layer; a cached sum is dropped, as its factors may change."""
        self._sum_cache = None
        return super().train(mode)

    def base_weight(self) -> Tensor:
        """Return the base weight as float [d_out, d_in], dequantized where it is packed."""
        from prunegrid import quantized

        layer = self.get_base_layer()
        if quantized.is_packed(layer):
            return quantized.dequantize(layer)
        return layer.weight.T if self.transposed else layer.weight

    def _factors(self) -> tuple[Tensor, Tensor, float]:
        return (
            self.lora_A[ADAPTER].weight,
            self.lora_B[ADAPTER].weight,
            self.scaling[ADAPTER],
        )

    def delta(self) -> Tensor:
        """Return the masked product mask ∘ (α/r) B A, [d_out, d_in]."""
        a, b, scale = self._factors()
        return _sum(None, a, b, self.kept, scale, b.dtype)

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return the masked product in the base weight's layout (peft merges with this)."""
        return self.delta().T if self.transposed else self.delta()

    def effective_zeros(self, base: Tensor) -> int:
        """Return how many entries of base + masked product are exactly zero.

        Summed in float64, where a kept weight does not cancel by rounding.
        """
        a, b, scale = self._factors()
        total = _sum(base.double(), a.double(), b.double(), self.kept, scale, torch.float64)
        return int((total == 0).sum())

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        """Return the layer's output, in the autocast dtype or else in that of `x`."""
        layer, kind = self.get_base_layer(), x.device.type
        if self.disable_adapters or self.merged:
            return self.base_layer(x, *args, **kwargs)
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        x = x.to(dtype)
        with torch.autocast(kind, enabled=False):
            out = self._product(x, dtype)
            return out if layer.bias is None else out + layer.bias.to(dtype)

    def _product(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        a, b, scale = self._factors()
        if not self.training and not torch.is_grad_enabled():
            weight = self._sum_cache
            if weight is None or weight.dtype != dtype:
                weight = _sum(self.base_weight, a, b, self.kept, scale, dtype)
                if self.cache:
                    self._sum_cache = weight
            return F.linear(x, weight)
        dropout = self.lora_dropout[ADAPTER]
        drops = self.training and not isinstance(dropout, nn.Identity)
        if self.kept is not None and not drops:
            return _MaskedProduct.apply(x, self.base_weight, a, b, self.kept, scale)
        out = FrozenProduct.apply(x, self.base_weight)
        x = dropout(x)
        if self.kept is not None:
            return out + _MaskedProduct.apply(x, None, a, b, self.kept, scale)
        return out + F.linear(F.linear(x, a.to(dtype)), b.to(dtype)) * scale


class FrozenProduct(torch.autograd.Function):
    """x Wᵀ with a frozen W that is formed again in backward, not kept."""

    @staticmethod
    def forward(ctx, x, base):
        ctx.base, ctx.dtype = base, x.dtype
        return F.linear(x, base().to(x.dtype))

    @staticmethod
    def backward(ctx, grad):
        return grad.to(ctx.dtype) @ ctx.base().to(ctx.dtype), None


def wrap(model: nn.Module, names: list[str], masks: dict[str, Tensor], settings: dict) -> nn.Module:
    """Return the model with masked adapters on the named linears; all else is frozen.

    Args:
        names: full names of the linears.
        masks: bool [d_out, d_in] by linear; empty leaves the products dense.
        settings: rank, alpha, dropout.
    """
    config = LoraConfig(
        r=settings["rank"],
        lora_alpha=settings["alpha"],
        lora_dropout=settings["dropout"],
        target_modules=list(names),
        bias="none",
        task_type="CAUSAL_LM",
    )
    return _wrap(model, config, masks)


def _wrap(model: nn.Module, config: LoraConfig, masks: dict[str, Tensor]) -> nn.Module:
    # peft shortens the list of names when it wraps, so it is kept here.
    names = set(config.target_modules)
    config._register_custom_module({type(model.get_submodule(n)): MaskedLinear for n in names})
    wrapped = get_peft_model(model, config, adapter_name=ADAPTER)
    found = layers(wrapped)
    if set(found) != names:
        raise RuntimeError(f"adapters on {sorted(set(found) ^ names)[:3]} differ from those asked")
    for name, layer in found.items():
        if masks:
            layer.kept = masks[name].to(layer.lora_A[ADAPTER].weight.device)
    return wrapped


def layers(model: nn.Module) -> dict[str, MaskedLinear]:
    """Return the masked adapters of a wrapped model by the names of their linears."""
    inner = model.get_base_model()
    return {n: m for n, m in inner.named_modules() if isinstance(m, MaskedLinear)}


def allow_cache(model: nn.Module, allowed: bool) -> None:
    """Let the masked adapters of a model (if it has any) keep dequantized sums in inference."""
    for module in model.modules():
        if isinstance(module, MaskedLinear):
            module.cache = allowed


def unwrap(model: nn.Module) -> nn.Module:
    """Return the base model without its adapters, unchanged."""
    return model.unload()


def merge(model: nn.Module) -> nn.Module:
    """Return the plain model with the masked products added into its weights."""
    return model.merge_and_unload()


def write_config(model: nn.Module, folder: Path) -> None:
    """Write `adapter_config.json`, the same bytes each time (no paths, sorted names)."""
    facts = model.peft_config[ADAPTER].to_dict()
    facts["base_model_name_or_path"] = "../base"
    facts["inference_mode"] = True
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in facts.items()}
    plain = json.loads(json.dumps(plain, default=str))
    artifacts.write_json(folder / "adapter_config.json", plain)


def read(base: nn.Module, folder: Path, masks: dict[str, Tensor]) -> nn.Module:
    """Return `base` wrapped with the adapter of a folder, under the masks given.

    Raises:
        PrunegridError: the adapter's tensors are not those that its config describes.
    """
    facts = artifacts.read_json(folder / "adapter_config.json")
    tensors = load_file(folder / "adapter_model.safetensors")
    ends = ".lora_A.weight"
    names = [k.removeprefix(PREFIX).removesuffix(ends) for k in tensors if k.endswith(ends)]
    config = LoraConfig(
        r=facts["r"],
        lora_alpha=facts["lora_alpha"],
        lora_dropout=facts["lora_dropout"],
        target_modules=names,
        bias="none",
        task_type="CAUSAL_LM",
    )
    model = _wrap(base, config, masks)
    expected = 2 * len(names)
    outcome = set_peft_model_state_dict(model, tensors, adapter_name=ADAPTER)
    if len(tensors) != expected or outcome.unexpected_keys:
        raise PrunegridError(
            f"{len(tensors)} adapter tensors",
            where=str(folder),
            expected=f"{expected}, as its config describes",
            remedy="the adapter is damaged: delete the folder and run again",
        )
    return model
