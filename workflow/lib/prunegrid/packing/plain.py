"""The tensors of a checkpoint as one plain model would hold them, adapter and 4-bit code undone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prunegrid import blocks, masked_lora, quantized
from prunegrid.checkpoint import Checkpoint


@dataclass(frozen=True)
class Plain:
    """A checkpoint's tensors on the CPU, tied weights once.

    Attributes:
        tensors: by their names in a plain model's files.
        linears: names of the prunable weights among them → whether it is stored as [d_in, d_out].
    """

    tensors: dict[str, Tensor]
    linears: dict[str, bool]


def of(loaded: Checkpoint) -> Plain:
    """Return the tensors of a checkpoint.

    Of a quantized base with its masked adapter a linear's weight is the sum that it multiplies
    with, dequantized base + mask ∘ (α/r) B A as [d_out, d_in], in the dtype of the weights that are
    not quantized: memory for all of them is taken. Else the model's own memory is shared.
    """
    if loaded.record["adapter"] == "unmerged":
        return _merged(loaded.model)
    linears = {
        f"{name}.weight": blocks.is_transposed(module)
        for name, module in blocks.prunable(loaded.model).items()
    }
    tensors = {name: tensor.detach().cpu() for name, tensor in loaded.tensors.items()}
    return Plain(tensors, linears)


def _merged(model: torch.nn.Module) -> Plain:
    """Return the tensors of a quantized base with its adapter, which stay as they are."""
    model.eval()  # drops sums that were kept for generation
    packed = {
        name.replace(".base_layer", ""): module
        for name, module in model.get_base_model().named_modules()
        if quantized.is_packed(module)
    }
    code = tuple(f"{name}.{part}" for name in packed for part in ("weight", "SCB"))
    base = quantized.split_tensors(model)["base"]
    tensors = {n: t.detach().cpu() for n, t in base.items() if not n.startswith(code)}
    dtype = next(t.dtype for t in tensors.values() if t.is_floating_point())
    layers = masked_lora.layers(model)
    with torch.no_grad():
        for name, module in packed.items():
            weight = quantized.dequantize(module)
            if name in layers:
                weight = weight + layers[name].delta()
            tensors[f"{name}.weight"] = weight.to(dtype).cpu()
    return Plain(tensors, dict.fromkeys((f"{name}.weight" for name in packed), False))
