"""Quantized bases with a masked adapter: quantize, dequantize, save, read and measure them.

A quantized folder holds `base/` (bitsandbytes NF4 or int8 weights as `save_pretrained` writes
them), `adapter/` (LoRA matrices), `masks.safetensors` (one packed bit for each base weight, only
where the parent was pruned) and the tokenizer's files. NF4 and int8 keep every zero exactly zero.

Deviations from QLoRA and LLM.int8(): a linear's product is taken with its dequantized weight in
the compute dtype, so int8 is a precision of the weights only (activations are not quantized); and
only the linears of the blocks are quantized.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prunegrid import artifacts, attest, blocks, checkpoint, clock, loading, masked_lora
from prunegrid.errors import PrunegridError
from prunegrid.extent import BLOCKS_ONLY, Extent

MASKS = "masks.safetensors"
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


def _forward(module: nn.Module, x: Tensor) -> Tensor:
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    x = x.to(dtype)
    with torch.autocast(kind, enabled=False):
        out = masked_lora.FrozenProduct.apply(x, functools.partial(dequantize, module))
        return out if module.bias is None else out + module.bias.to(dtype)


def is_packed(module: nn.Module) -> bool:
    """Return whether the module is a linear of bitsandbytes."""
    return type(module).__name__ in PACKED


def dequantize(module: nn.Module) -> Tensor:
    """Return a packed linear's weight as float [d_out, d_in], in the dtype it was packed from."""
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


def save(model: nn.Module, tokenizer, out: Path, pattern: str | None) -> dict:
    """Return the WEIGHTS RECORD of the quantized folder written, measured after reading it back.

    Args:
        model: a peft model whose base is quantized and whose adapters are `MaskedLinear`.
    """
    out = Path(out)
    parts = split_tensors(model)
    size = sum(t.numel() * t.element_size() for part in parts.values() for t in part.values())
    artifacts.require_space(out, size + 2**20)
    (out / "adapter").mkdir()
    adapter = {name: t.cpu().contiguous() for name, t in parts["adapter"].items()}
    save_file(adapter, out / "adapter" / "adapter_model.safetensors", {"format": "pt"})
    masked_lora.write_config(model, out / "adapter")
    if parts["masks"]:
        save_file(parts["masks"], out / MASKS)
    if tokenizer is not None:
        tokenizer.save_pretrained(out)
    # The base is saved without its wrappers; the caller's model is of no use after this.
    base = masked_lora.unwrap(model)
    base.save_pretrained(out / "base")
    return read(out, "cpu", pattern).record


def read(
    folder: Path,
    device: str,
    pattern: str | None,
    adapter: str = "unmerged",
    extent: Extent = BLOCKS_ONLY,
) -> checkpoint.Checkpoint:
    """Return the checkpoint of a quantized folder with its masked adapter, measured in memory.

    Raises:
        PrunegridError: the folder is not whole, or its record speaks of another kind of adapter.
    """
    from transformers import AutoModelForCausalLM

    folder = Path(folder)
    if adapter != "unmerged":
        raise PrunegridError(
            f"its record says adapter: {adapter}", where=str(folder), expected="unmerged"
        )
    clock.require_stopped("weights are read", str(folder))
    checkpoint.check_files(folder)
    base, found = AutoModelForCausalLM.from_pretrained(
        folder / "base",
        device_map={"": device},
        dtype="auto",
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
    )
    compute_dequantized(base)
    odd = [*found["missing_keys"], *found["mismatched_keys"], *found["unexpected_keys"]]
    if odd:
        raise PrunegridError(
            f"tensors are missing, misshapen or unexpected: {sorted(map(str, odd))[:3]}",
            where=str(folder / "base"),
            remedy="the folder is incomplete: delete it and run again",
        )
    masks = {}
    if (folder / MASKS).exists():
        for name, packed in load_file(folder / MASKS).items():
            masks[name] = unpack_mask(packed, base.get_submodule(name).in_features)
    model = masked_lora.read(base, folder / "adapter", masks).eval()
    parts = split_tensors(model)
    tensors = {f"{part}/{name}": t for part, named in parts.items() for name, t in named.items()}
    record = measure(model, tensors, pattern, checkpoint.file_bytes(folder), str(folder))
    return checkpoint.Checkpoint(model, loading.read_tokenizer(folder), tensors, record)


def split_tensors(model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Return {"base", "adapter", "masks"}: the tensors in memory by their names in the files."""
    parts: dict[str, dict[str, Tensor]] = {"base": {}, "adapter": {}, "masks": {}}
    inner = model.get_base_model()
    for name, value in attest.model_tensors(inner).items():
        if ".lora_" in name:
            # The adapter's own name ("default") does not stand in the files.
            plain = name.replace(f".{masked_lora.ADAPTER}.", ".")
            parts["adapter"][masked_lora.PREFIX + plain] = value
        else:
            parts["base"][name.replace(".base_layer.", ".")] = value
    for name, layer in masked_lora.layers(model).items():
        if layer.kept is not None:
            parts["masks"][name] = pack_mask(layer.kept)
    return parts


def measure(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    pattern: str | None,
    file_bytes: int,
    where: str,
) -> dict:
    """Return the WEIGHTS RECORD of a quantized base with a masked, unmerged adapter."""
    layers, linears, effective = masked_lora.layers(model), {}, 0
    packed = {
        name.replace(".base_layer", ""): module
        for name, module in model.get_base_model().named_modules()
        if is_packed(module)
    }
    if not packed:
        raise PrunegridError("no quantized linear", where=where)
    parameters = nonzero = 0
    for name, module in packed.items():
        weight = dequantize(module)
        # Only zeros are counted, so one byte a weight is enough to keep.
        linears[name] = (weight != 0).to(torch.uint8).cpu()
        effective += (
            layers[name].effective_zeros(weight) if name in layers else int((weight == 0).sum())
        )
        parameters += weight.numel()
        nonzero += int(torch.count_nonzero(weight))
    inside = {id(module.weight) for module in packed.values()}
    for parameter in model.parameters():
        if id(parameter) not in inside:
            parameters += parameter.numel()
            nonzero += int(torch.count_nonzero(parameter))
    return checkpoint.measure(
        tensors,
        linears,
        pattern=pattern,
        precision=PACKED[type(next(iter(packed.values()))).__name__],
        adapter="unmerged",
        parameters=parameters,
        nonzero=nonzero,
        file_bytes=file_bytes,
        where=where,
        effective_zeros=effective,
    )
