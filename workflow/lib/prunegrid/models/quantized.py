"""Packed weights, NF4 or int8 of bitsandbytes: quantize, dequantize, compute with them.

NF4 and int8 keep every zero exactly zero. How they are stored is said in
`prunegrid.models.split_checkpoint`.

Deviations from QLoRA and LLM.int8(): a linear's product is taken with its dequantized weight in
the compute dtype, so int8 is a precision of the weights only (activations are not quantized); and
only the linears of the blocks are quantized.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models import blocks, checkpoint, loading
from prunegrid.models.masked_product import FormedProduct

PACKED = {"Linear4bit": "nf4", "Linear8bitLt": "int8"}


def quantize(folder: Path, device: str, kind: str, double_quant: bool) -> nn.Module:
    """Return the model of a plain folder with the linears of its blocks quantized.

    Args:
        kind: "nf4" or "int8".
        double_quant: quantize the scales of NF4 too.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    plain = loading.read_model(folder)
    inside = set(blocks.prunable(plain))
    outside = sorted(
        name
        for name, module in plain.named_modules()
        if name not in inside and type(module).__name__ in ("Linear", "Conv1D")
    )
    del plain
    if kind == "nf4":
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=double_quant,
            llm_int8_skip_modules=outside,
        )
    else:
        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=outside)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        quantization_config=config,
        dtype="auto",
        device_map={"": device},
        local_files_only=True,
        use_safetensors=True,
    )
    compute_dequantized(model)
    left = sorted(name for name in inside if not is_packed(model.get_submodule(name)))
    if left:
        raise PrunegridError(
            f"{len(left)} linears could not be quantized, the first is {left[0]}",
            where=str(folder),
            expected="torch Linear or Conv1D layers in its blocks",
        )
    return model.eval()


def compute_dequantized(model: nn.Module) -> None:
    """Make every packed linear of a model multiply by its dequantized weight.

    A linear without an adapter would otherwise run in bitsandbytes' own kernels: int8 activations
    in inference but not in training, biases cast and weights repacked in place by a forward.
    """
    for module in model.modules():
        if is_packed(module):
            module.forward = functools.partial(_forward, module)
            module.hold, module.held = False, {}


def hold_weights(model: nn.Module, held: bool) -> None:
    """Say whether linears keep what they multiply by in memory: the same numbers in less time.

    Of packed linears that is the dequantized weight, of those with an adapter its sum with the
    product too: 4 bytes a weight in float32, 2 in bfloat16. Other linears have nothing to form.
    """
    for module in model.modules():
        # Packed linears (see `compute_dequantized`) and `masked_lora.MaskedLinear` have it.
        if hasattr(module, "hold"):
            module.hold = held
            if not held:
                module.held = {}


def _forward(module: nn.Module, x: Tensor) -> Tensor:
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    x = x.to(dtype)
    with torch.autocast(kind, enabled=False):
        out = FormedProduct.apply(x, functools.partial(_weight, module, dtype))
        return out if module.bias is None else out + module.bias.to(dtype)


def _weight(module: nn.Module, dtype: torch.dtype) -> Tensor:
    """Return a packed linear's weight, from an earlier pass where it is held."""
    if not module.hold:
        return dequantize(module).to(dtype)
    if dtype not in module.held:
        with torch.inference_mode(False):
            module.held = {dtype: dequantize(module).to(dtype)}
    return module.held[dtype]


def is_packed(module: nn.Module) -> bool:
    """Return whether the module is a linear of bitsandbytes."""
    return type(module).__name__ in PACKED


def dequantize(module: nn.Module) -> Tensor:
    """Return a packed linear's weight [d_out, d_in]: NF4 in the dtype it was packed from, int8 in
    float32."""
    import bitsandbytes.functional as packed

    if type(module).__name__ == "Linear4bit":
        state = module.weight.quant_state
        return packed.dequantize_4bit(module.weight.data, state).view(state.shape)
    weight = module.weight
    scale = weight.SCB if getattr(weight, "SCB", None) is not None else module.state.SCB
    return weight.data.float() * (scale.float() / 127).unsqueeze(1)


def pack_mask(mask: Tensor) -> Tensor:
    """Return a bool mask [d_out, d_in] as uint8 [d_out, ceil(d_in / 8)], first column highest."""
    rows = np.ascontiguousarray(mask.cpu().numpy())
    return torch.from_numpy(np.packbits(rows, axis=1))


def unpack_mask(packed: Tensor, d_in: int) -> Tensor:
    """Return the bool mask [d_out, d_in] that `pack_mask` packed."""
    return torch.from_numpy(np.unpackbits(packed.numpy(), axis=1, count=d_in)).bool()


@torch.no_grad()
def quantize_again(
    folder: Path, weights: Mapping[str, Tensor], scratch: Path, device: str, settings: dict
) -> nn.Module:
    """Return the model of a plain folder with some linears replaced, then quantized.

    The linears that are not named are quantized from the folder's own weights.

    Args:
        weights: the new weights [d_out, d_in] by linear.
        scratch: a folder to be made and removed: quantizing reads files.
        settings: quantization, double_quant.
    """
    plain = loading.read_model(folder)
    linears = blocks.prunable(plain)
    for name, weight in weights.items():
        blocks.oriented(linears[name]).copy_(weight)
    scratch.mkdir()
    try:
        checkpoint.save_model(plain, scratch)
        del plain, linears
        return quantize(scratch, device, settings["quantization"], settings["double_quant"])
    finally:
        shutil.rmtree(scratch)
