"""Packed weights, NF4 or int8 of bitsandbytes: quantize, dequantize, compute with them.

NF4 and int8 keep every zero exactly zero. `prunegrid.models.split_checkpoint` stores them.

Deviations from QLoRA and LLM.int8(): a linear multiplies with its dequantized weight in the compute
dtype, so activations are not quantized; only the linears of the blocks are packed.
"""

from __future__ import annotations

import copy
import functools
import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError, explained
from prunegrid.models import blocks, checkpoint, forward, linear_use, loading
from prunegrid.models.masked_product import FormedProduct

log = logging.getLogger(__name__)

PACKED = {"Linear4bit": "nf4", "Linear8bitLt": "int8"}


def require_packable(model: nn.Module, where: str, *, training: bool = False) -> dict[str, str]:
    """Return {linear of the blocks: why it stays plain}, after checking that not all of them do.

    Args:
        model: plain, on its device.
        training: it is to be trained over the packed weights.

    Raises:
        PrunegridError: no linear can be packed.
    """
    from transformers.quantizers.quantizers_utils import should_convert_module

    linears = blocks.prunable(model)
    exact = list(getattr(model, "_keep_in_fp32_modules", None) or ())
    reasons = {
        name: "transformers keeps it in float32"
        for name in linears
        if not should_convert_module(name, exact)
    }
    reasons |= {
        name: "transformers packs plain Linear and Conv1D layers alone"
        for name, linear in linears.items()
        if type(linear) is not nn.Linear and not blocks.is_transposed(linear)
    }
    reasons |= {
        name: "transformers would read its scales back under another name"
        for name in _renamed(model, linears)
    }
    reasons |= linear_use.irreplaceable(model, linears, training=training)
    if len(reasons) == len(linears):
        raise PrunegridError(
            f"no linear of its blocks can be packed: {linear_use.listing(reasons)}",
            where=where,
            expected="linears that packed weights can stand in for",
            remedy="leave the model in float32 or bfloat16",
        )
    if reasons:
        log.info("%s: not packed: %s", where, linear_use.listing(reasons))
    return reasons


def _renamed(model: nn.Module, names: Iterable[str]) -> set[str]:
    """Return the linears whose scales transformers reads under another name than it wrote.

    Its patterns, from names of a first release to those of today, can match today's names too. It
    leaves a weight's own name alone then, since the model has it, but not those of scales.
    """
    from transformers import conversion_mapping, core_model_loading

    known = conversion_mapping.get_model_conversion_mapping(model)
    renamings = [one for one in known if isinstance(one, core_model_loading.WeightRenaming)]
    prefix = getattr(model, "base_model_prefix", None)
    tensors, found = model.state_dict(), set()
    for name in names:
        scale = core_model_loading.apply_renamings(f"{name}.weight.absmax", renamings)
        weight = scale.removesuffix(".absmax")
        # A prefix that is lost is put back.
        weight, _ = core_model_loading.rename_source_key(weight, [], [], prefix, tensors)
        if weight != f"{name}.weight":
            found.add(name)
    return found


def quantize(
    folder: Path, device: str, kind: str, double_quant: bool, plain: Iterable[str] = ()
) -> nn.Module:
    """Return the model of a plain folder with the linears of its blocks quantized.

    Args:
        kind: "nf4" or "int8".
        double_quant: quantize the scales of NF4 too.
        plain: linears that are left as they are (see `require_packable`).
    """
    from transformers import BitsAndBytesConfig

    skeleton = loading.skeleton(folder)
    inside = blocks.prunable(skeleton).keys() - set(plain)
    options: dict[str, Any] = {"load_in_8bit": True}
    if kind == "nf4":
        options = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
        options["bnb_4bit_use_double_quant"] = double_quant
    skipped = sorted(blocks.linears_of(skeleton).keys() - inside)
    config = BitsAndBytesConfig(**options, llm_int8_skip_modules=skipped)
    model = read_packed(folder, device, quantization_config=config)
    amiss = inside ^ {name for name, module in model.named_modules() if is_packed(module)}
    if amiss:
        raise PrunegridError(
            f"{len(amiss)} linears were packed otherwise than planned, the first is {min(amiss)}",
            where=str(folder),
            expected="packed linears in its blocks, and no others",
            remedy="this architecture is not supported in NF4 and int8",
        )
    _require_computes(model, str(folder))
    return model


def plain_linears(model: nn.Module) -> set[str]:
    """Return the linears of a packed model that were left plain, those outside its blocks too."""
    how = getattr(model.config, "quantization_config", None)
    return set(getattr(how, "llm_int8_skip_modules", None) or ())


@torch.no_grad()
def _require_computes(model: nn.Module, where: str) -> None:
    """Check that a model runs with packed weights: some read the dtype of a weight, or its shape.

    Raises:
        PrunegridError: it ends in an error, or changes its weights as it runs (RWKV).
    """
    fails = PrunegridError(
        f"{type(model).__name__} cannot compute with packed weights",
        where=where,
        expected="a model that reads no weight but by its linears",
        remedy="use precision bfloat16 or float32",
    )
    window = torch.arange(3, 11, device=forward.device_of(model))[None]
    packed = {module: module.weight for module in model.modules() if is_packed(module)}
    with explained(fails):
        forward.run_window(model, window)
    if any(module.weight is not weight for module, weight in packed.items()):
        raise fails


def read_packed(folder: Path, device: str, **options: Any) -> nn.Module:
    """Return the model of a folder whose linears are packed, or are packed by `options`.

    Raises:
        PrunegridError: transformers cannot load this architecture so.
    """
    odd = PrunegridError(
        "transformers cannot load the model with packed linears",
        where=str(folder),
        expected="an architecture that it can load in NF4 and int8",
        remedy="use precision bfloat16 or float32",
    )
    with explained(odd):
        model = loading.read_model(folder, device_map={"": device}, **options)
    compute_dequantized(model)
    return model


def compute_dequantized(model: nn.Module) -> None:
    """Make every packed linear of a model multiply by its dequantized weight.

    bitsandbytes' own kernels quantize activations to int8 in inference but not in training; their
    forward casts biases and repacks weights in place.
    """
    for module in model.modules():
        if is_packed(module):
            module.forward = functools.partial(_forward, module)
            module.hold, module.held = False, {}


def hold_weights(model: nn.Module, held: bool) -> None:
    """Set whether linears keep the weight that they compute in memory: same numbers, less time.

    Packed linears keep the dequantized weight, linears with an adapter also its sum with the
    product: 4 bytes a weight in float32, 2 in bfloat16. Other linears compute no weight.
    """
    for module in model.modules():
        # Packed linears (see `compute_dequantized`) and `masked_lora.MaskedLinear` have it.
        if hasattr(module, "hold"):
            module.hold = held
            if not held:
                module.held = {}


def _forward(module: nn.Module, x: Tensor) -> Tensor:
    if not x.is_floating_point():
        # T5's kin give a linear its input in the dtype of its weight: here that of the codes.
        raise TypeError(f"a packed linear is given {x.dtype}, not floats")
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    x = x.to(dtype)
    with torch.autocast(kind, enabled=False):
        out = FormedProduct.apply(x, functools.partial(_weight, module, dtype))
        return out if module.bias is None else out + module.bias.to(dtype)


def _weight(module: nn.Module, dtype: torch.dtype) -> Tensor:
    """Return a packed linear's weight, of an earlier pass where it is kept."""
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
        # Scales are of blocks of the flat weight; bitsandbytes' kernel for CPUs begins a block with
        # each row, which is another where the width is no multiple of a block.
        flat, count = copy.copy(state), state.shape.numel()
        width = state.blocksize if count % state.blocksize == 0 else count
        flat.shape = torch.Size((count // width, width))
        return packed.dequantize_4bit(module.weight.data, flat).view(state.shape)
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
    folder: Path,
    weights: Mapping[str, Tensor],
    scratch: Path,
    device: str,
    settings: dict,
    plain: Iterable[str] = (),
) -> nn.Module:
    """Return the model of a plain folder with some linears replaced, then quantized.

    Args:
        weights: the new weights [d_out, d_in] by linear; the others stay the folder's.
        scratch: a folder that this makes and removes, as quantizing reads files.
        settings: quantization, double_quant.
        plain: as of `quantize`.
    """
    model = loading.read_model(folder)
    linears = blocks.prunable(model)
    for name, weight in weights.items():
        blocks.oriented(linears[name]).copy_(weight)
    scratch.mkdir()
    try:
        checkpoint.save_model(model, scratch)
        del model, linears
        return quantize(scratch, device, settings["quantization"], settings["double_quant"], plain)
    finally:
        shutil.rmtree(scratch)
