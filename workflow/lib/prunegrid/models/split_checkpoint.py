"""Folders in parts: a base, and an adapter beside it where one was not merged.

`base/` holds a model as `save_pretrained` writes it, plain or packed (bitsandbytes NF4 or int8).
`adapter/` holds LoRA matrices, `masks.safetensors` one bit for each base weight if the adapter's
product is under the pruning mask. Beside them lie the tokenizer's files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prunegrid.artifacts import artifact_folder
from prunegrid.common.errors import PrunegridError
from prunegrid.common.gc_pause import importing
from prunegrid.models import (
    attestation,
    blocks,
    checkpoint,
    forward,
    loading,
    quantized,
    weights_record,
)
from prunegrid.models.experts import ExpertLinear, linear_named, weight_of
from prunegrid.models.prunable import BLOCKS_ONLY, Extent

MASKS = "masks.safetensors"


def save(
    model: nn.Module,
    tokenizer,
    out: Path,
    pattern: str | None,
    adapter: str = "unmerged",
    dtype: torch.dtype | None = None,
    extent: Extent = BLOCKS_ONLY,
) -> checkpoint.Checkpoint:
    """Write a folder in parts; return its checkpoint, read back and measured.

    Args:
        model: with `MaskedLinear` adapters, or a packed one without; nobody uses it after this.
        adapter: "unmerged" for a model with adapters, else "none" or "merged".
        dtype: of a plain base in its file; the adapter keeps its own.
        extent: which weights are prunable.

    Raises:
        PrunegridError: the disk is too full, or the weights are not finite.
    """
    out = Path(out)
    tensors = split_tensors(model)
    size = sum(tensor.nbytes for part in tensors.values() for tensor in part.values())
    artifact_folder.require_space(out, size + 2**20)
    base = model
    if tensors["adapter"]:
        (out / "adapter").mkdir()
        plain = {name: t.cpu().contiguous() for name, t in tensors["adapter"].items()}
        save_file(plain, out / "adapter" / "adapter_model.safetensors", {"format": "pt"})
        _masked_lora().write_config(model, out / "adapter")
        base = _masked_lora().unload(model)
    if tensors["masks"]:
        save_file(tensors["masks"], out / MASKS)
    if tokenizer is not None:
        tokenizer.save_pretrained(out)
    if dtype is not None:
        base.to(dtype)
    base.save_pretrained(out / "base", save_original_format=False)
    return read(out, "cpu", pattern, adapter, extent)


def read(
    folder: Path,
    device: str,
    pattern: str | None,
    adapter: str = "unmerged",
    extent: Extent = BLOCKS_ONLY,
) -> checkpoint.Checkpoint:
    """Return the checkpoint of a folder in parts, measured in memory.

    Raises:
        PrunegridError: the folder is not whole, or its record speaks of another kind of adapter.
    """
    folder = Path(folder)
    has_adapter = (folder / "adapter").is_dir()
    _require_adapter(has_adapter, adapter, str(folder))
    checkpoint.check_files(folder)
    base = _read_base(folder / "base", device)
    names, prunable = list(extent.all_linears(base)), set(extent.linears(base))
    inside, shares = blocks.prunable(base), extent.shares(base)
    plain = set(names) - inside.keys() | quantized.plain_linears(base)
    plain |= {name for name, linear in inside.items() if isinstance(linear, ExpertLinear)}
    masks = {}
    if (folder / MASKS).exists():
        for name, packed in load_file(folder / MASKS).items():
            masks[name] = quantized.unpack_mask(packed, _shape(base.get_submodule(name))[1])
    model = _masked_lora().read(base, folder / "adapter", masks).eval() if has_adapter else base
    tensors = {
        f"{part}/{name}": t
        for part, named in split_tensors(model).items()
        for name, t in named.items()
    }
    facts = _count(model, names, prunable, plain, str(folder))
    record = weights_record.measure(
        tensors,
        pattern=pattern,
        adapter=adapter,
        file_bytes=checkpoint.file_bytes(folder),
        where=str(folder),
        extent=extent,
        shares=shares,
        **facts,
    )

    def weights() -> Iterator[tuple[str, Tensor, Tensor]]:
        return weights_of(model, names)

    tokenizer = loading.read_tokenizer(folder, base)
    return checkpoint.Checkpoint(model, tokenizer, tensors, record, weights)


def _require_adapter(is_there: bool, adapter: str, where: str) -> None:
    """Check that a folder has an adapter beside its base exactly if its record says so."""
    if is_there != (adapter == "unmerged"):
        raise PrunegridError(
            f"its record says adapter: {adapter}",
            where=where,
            expected="unmerged" if is_there else "none or merged, as it has no adapter/",
        )


def _read_base(folder: Path, device: str) -> nn.Module:
    config = loading.read_config(folder)
    if getattr(config, "quantization_config", None) is None:
        return loading.read_model(folder).to(device)
    return quantized.read_packed(folder, device)


def _shape(module: nn.Module) -> tuple[int, int]:
    """Return (d_out, d_in) of a linear, packed or not."""
    if quantized.is_packed(module):
        return module.out_features, module.in_features
    return tuple(blocks.oriented(module).shape)


def weights_of(model: nn.Module, names: Iterable[str]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (name, base weight, base + adapter), each [d_out, d_in], of each named linear."""
    inner = forward.inner(model)
    with torch.no_grad():
        for name in names:
            module = linear_named(inner, name)
            if _is_adapted(module):
                weight = module.base_weight().detach()
                yield name, weight, weight + module.delta()
                continue
            packed = quantized.is_packed(module)
            weight = quantized.dequantize(module) if packed else blocks.oriented(module)
            yield name, weight, weight


def _is_adapted(module: nn.Module) -> bool:
    """Return whether a linear has an adapter, without importing peft."""
    return type(module).__name__ == "MaskedLinear"


def _masked_lora() -> ModuleType:
    """Import the module of adapters, with peft, only for a model that has some."""
    with importing("peft"):
        from prunegrid.models import masked_lora

    return masked_lora


def split_tensors(model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Return {"base", "adapter", "masks"}: the tensors in memory by their names in the files."""
    parts: dict[str, dict[str, Tensor]] = {"base": {}, "adapter": {}, "masks": {}}
    for name, value in attestation.model_tensors(forward.inner(model)).items():
        if ".lora_" in name:
            masked_lora = _masked_lora()
            # The files leave out the adapter's own name ("default").
            plain = name.replace(f".{masked_lora.ADAPTER}.", ".")
            parts["adapter"][masked_lora.PREFIX + plain] = value
        else:
            parts["base"][name.replace(".base_layer.", ".")] = value
    if parts["adapter"]:
        for name, layer in _masked_lora().layers(model).items():
            if layer.kept is not None:
                parts["masks"][name] = quantized.pack_mask(layer.kept)
    return parts


def _count(
    model: nn.Module, names: list[str], prunable: set[str], plain: set[str], where: str
) -> dict[str, Any]:
    """Return linears, precision and counts for `weights_record.measure`.

    A packed weight counts once. The precision is that of the linears that are not in `plain`.

    Args:
        names: of the linears of the blocks, and of the `prunable` ones outside.
    """
    inner, linears, effective = forward.inner(model), {}, 0
    parameters = nonzero = 0
    counted, precisions = set(), set()
    for name, weight, _ in weights_of(model, names):
        module = linear_named(inner, name)
        adapted = _is_adapted(module)
        base = module.get_base_layer() if adapted else module
        zeros = int((weight == 0).sum())
        if name in prunable:
            # The record counts zeros alone, so one byte for each weight is enough.
            linears[name] = (weight != 0).to(torch.uint8).cpu()
            effective += module.effective_zeros(weight) if adapted else zeros
        parameters += weight.numel()
        nonzero += weight.numel() - zeros
        counted.add(id(weight_of(base)))
        dtype = str(weight.dtype).removeprefix("torch.")
        if name not in plain:
            precisions.add(quantized.PACKED.get(type(base).__name__, dtype))
    if len(precisions) != 1:
        raise PrunegridError(
            f"linears of {len(precisions)} precisions: {sorted(precisions)}", where=where
        )
    for parameter in model.parameters():
        if id(parameter) not in counted:
            parameters += parameter.numel()
            nonzero += int(torch.count_nonzero(parameter))
    return {
        "linears": linears,
        "precision": precisions.pop(),
        "parameters": parameters,
        "nonzero": nonzero,
        "effective_zeros": effective,
    }
