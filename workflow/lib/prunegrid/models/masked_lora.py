"""LoRA whose product is under the pruning mask: h = x (W + M ∘ (α/r) B A)ᵀ + b.

Hu et al. 2021 (LoRA), arXiv 2106.09685: h = x Wᵀ + (α/r) x Aᵀ Bᵀ. A plain adapter merged into a
pruned W fills its zeros. Here the mask M (True = kept) multiplies the product B A from the first
training step on: training and merging see the same weights, and the zeros stay exactly zero.

Deviations: with a mask, the sum is formed and multiplied once (one matrix product forward, two
backward, as in full fine-tuning); without one, the low-rank product is. With dropout in training
the base and the adapter's product are separate. A quantized base is dequantized to be used.

A layer forms these weights (its sum, its dequantized base) for every pass, or keeps them in memory
if `hold` is set: the same numbers, for the memory of plain weights. It forms a sum again when its
adapter has changed, so once in an optimizer step.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from peft.tuners import lora
from safetensors.torch import load_file
from torch import Tensor, nn

from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.models import quantized
from prunegrid.models.masked_product import FormedProduct, MaskedProduct, Scratch, masked_sum

ADAPTER = "default"
# peft writes this before the name of a linear in the adapter's file.
PREFIX = "base_model.model."


class MaskedLinear(lora.layer.Linear):
    """A peft LoRA layer over a Linear, Conv1D or packed linear, with its product under a mask.

    Attributes:
        hold: keep the weights that are formed in memory between passes.
        scratch: memory for those that are not kept.
    """

    def __init__(
        self, base_layer, adapter_name: str, config, r: int = 0, lora_alpha: int = 1, **kw
    ):
        super().__init__(base_layer, adapter_name, config=config, r=r, lora_alpha=lora_alpha, **kw)
        self.transposed = type(base_layer).__name__ == "Conv1D"
        self.fan_in_fan_out = self.transposed
        self.register_buffer("_bits", None, persistent=False)
        self.hold, self.scratch = False, Scratch()
        self.held: dict[str, tuple[tuple, Tensor]] = {}

    @property
    def kept(self) -> Tensor | None:
        """Return the mask: bool [d_out, d_in], True = kept; None leaves the product dense."""
        return None if self._bits is None else self._bits != 0

    @kept.setter
    def kept(self, mask: Tensor | None) -> None:
        self._bits = None if mask is None else mask.to(torch.int8).neg_()
        self.held = {}

    def train(self, mode: bool = True):
        """Set the mode and drop the weights in memory, as the factors may be set meanwhile."""
        self.held = {}
        return super().train(mode)

    def base_weight(self) -> Tensor:
        """Return the base weight as float [d_out, d_in], dequantized where it is packed."""
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
        return masked_sum(None, self._factors(), self._bits, self.scratch)

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return the masked product in the base weight's layout (peft merges with this)."""
        return self.delta().T if self.transposed else self.delta()

    def effective_zeros(self, base: Tensor) -> int:
        """Return how many entries of base + masked product are exactly zero.

        Summed in float64, where a kept weight does not cancel by rounding.
        """
        a, b, scale = self._factors()
        factors = a.double(), b.double(), scale
        return int((masked_sum(base.double(), factors, self._bits, Scratch()) == 0).sum())

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
        whole = functools.partial(self._formed, "sum", dtype)
        if not self.training and not torch.is_grad_enabled():
            return F.linear(x, whole())
        dropout = self.lora_dropout[ADAPTER]
        drops = self.training and not isinstance(dropout, nn.Identity)
        rest = a, b, self._bits, scale, self.scratch
        if self._bits is not None and not drops:
            return MaskedProduct.apply(x, whole, *rest)
        out = FormedProduct.apply(x, functools.partial(self._formed, "base", dtype))
        x = dropout(x)
        if self._bits is not None:
            product = functools.partial(self._formed, "product", dtype)
            return out + MaskedProduct.apply(x, product, *rest)
        return out + F.linear(F.linear(x, a.to(dtype)), b.to(dtype)) * scale

    def _formed(self, what: str, dtype: torch.dtype) -> Tensor:
        """Return the "sum", "product" or "base" [d_out, d_in]; scratch memory without `hold`."""
        if not self.hold:
            return self._form(what, dtype, None)
        a, b, _ = self._factors()
        before, weight = self.held.get(what, (None, None))
        reusable = weight is not None and weight.dtype == dtype
        # Values, not versions: not all that writes into a tensor counts up its version.
        if reusable and (what == "base" or all(map(torch.equal, before, (a, b)))):
            return weight
        # A tensor of inference mode is of no use to a later backward pass.
        with torch.inference_mode(False), torch.no_grad():
            if what != "base" and not reusable:
                weight = torch.empty(len(b), a.shape[1], dtype=dtype, device=a.device)
            weight = self._form(what, dtype, weight)
            self.held[what] = (a.clone(), b.clone()), weight
        return weight

    def _form(self, what: str, dtype: torch.dtype, out: Tensor | None) -> Tensor:
        """Compute one of the three as `dtype`, into `out` (None: into scratch)."""
        base = None if what == "product" else self.base_weight()
        if what == "base":
            return base.to(dtype)
        a, b, scale = self._factors()
        shape = torch.Size((len(b), a.shape[1]))
        if out is None:
            out = self.scratch.empty("sum", shape, dtype, a.device)
        same = a.dtype == dtype
        room = out if same else self.scratch.empty("sum", shape, a.dtype, a.device)
        weight = masked_sum(base, (a, b, scale), self._bits, self.scratch, room)
        return weight if same else out.copy_(weight)


def wrap(model: nn.Module, names: list[str], masks: dict[str, Tensor], settings: dict) -> nn.Module:
    """Return the model with masked adapters on the named linears; all else is frozen.

    Args:
        names: full names of the linears.
        masks: bool [d_out, d_in] by linear, True = kept; empty leaves the products dense.
        settings: rank, alpha, dropout.
    """
    config = LoraConfig(
        r=settings["rank"],
        lora_alpha=settings["alpha"],
        lora_dropout=settings["dropout"],
        target_modules=list(names),
        bias="none",
        task_type="CAUSAL_LM" if model.can_generate() else None,
    )
    config._register_custom_module({type(model.get_submodule(n)): MaskedLinear for n in names})
    wrapped = get_peft_model(model, config, adapter_name=ADAPTER)
    adapted = layers(wrapped)
    if set(adapted) != set(names):
        raise RuntimeError(f"peft put adapters on other linears: {set(adapted) ^ set(names)}")
    scratch = Scratch()
    for name, layer in adapted.items():
        layer.scratch = scratch
        if masks:
            layer.kept = masks[name].to(layer.lora_A[ADAPTER].weight.device)
    return wrapped


def layers(model: nn.Module) -> dict[str, MaskedLinear]:
    """Return the masked adapters of a wrapped model by the names of their linears."""
    inner = model.get_base_model()
    return {n: m for n, m in inner.named_modules() if isinstance(m, MaskedLinear)}


def merge(model: nn.Module) -> nn.Module:
    """Add the masked products into the weights; return the plain model."""
    return model.merge_and_unload()


def write_config(model: nn.Module, folder: Path) -> None:
    """Write `adapter_config.json`, the same bytes each time (no paths, sorted names)."""
    facts = model.peft_config[ADAPTER].to_dict()
    facts["base_model_name_or_path"] = "../base"
    facts["inference_mode"] = True
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in facts.items()}
    plain = json.loads(json.dumps(plain, default=str))
    file_io.write_json(folder / "adapter_config.json", plain)


def read(base: nn.Module, folder: Path, masks: dict[str, Tensor]) -> nn.Module:
    """Return `base` with the adapter of a folder, under the given masks (see `wrap`).

    Raises:
        PrunegridError: the adapter's tensors are not those that its config describes.
    """
    facts = file_io.read_json(folder / "adapter_config.json")
    tensors = load_file(folder / "adapter_model.safetensors")
    ends = ".lora_A.weight"
    names = [k.removeprefix(PREFIX).removesuffix(ends) for k in tensors if k.endswith(ends)]
    stored = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
    model = wrap(base, names, masks, {own: facts[theirs] for own, theirs in stored.items()})
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
