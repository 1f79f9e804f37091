"""Folders in parts: `base/`, and an adapter beside it where one was not merged.

`base/` holds a model as `save_pretrained` writes it, plain or packed (bitsandbytes NF4 or int8);
`adapter/` LoRA matrices; `masks.safetensors` one packed bit for each base weight, where the
adapter's product is under the pruning mask; beside them lie the tokenizer's files.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prunegrid.artifacts import artifact_folder
from prunegrid.common import timing_guard
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
    """Return the checkpoint of the folder written, read back and measured.

    Args:
        model: with `MaskedLinear` adapters, or a packed one without; of no use after this.
        adapter: "unmerged" where it has adapters, else what was done before: "none" or "merged".
        dtype: that a plain base is stored in; the adapter stays in its own.
        extent: what counts as prunable.

    Raises:
        PrunegridError: the disk is too full, or the weights are not finite.
    """
    out = Path(out)
    tensors = split_tensors(model)
    size = sum(t.numel() * t.element_size() for part in tensors.values() for t in part.values())
    artifact_folder.require_space(out, size + 2**20)
    base = model
    if tensors["adapter"]:
        (out / "adapter").mkdir()
        held = {name: t.cpu().contiguous() for name, t in tensors["adapter"].items()}
        save_file(held, out / "adapter" / "adapter_model.safetensors", {"format": "pt"})
        masked_lora = _masked_lora()
        masked_lora.write_config(model, out / "adapter")
        base = masked_lora.unwrap(model)
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
    beside = (folder / "adapter").is_dir()
    if beside != (adapter == "unmerged"):
        raise PrunegridError(
            f"its record says adapter: {adapter}",
            where=str(folder),
            expected="unmerged" if beside else "none or merged, as it has no adapter/",
        )
    timing_guard.require_stopped("weights are read", str(folder))
    checkpoint.check_files(folder)
    base = _read_base(folder / "base", device)
    names = list(extent.linears(base))
    outside = set(names) - set(blocks.prunable(base))
    masks = {}
    if (folder / MASKS).exists():
        for name, packed in load_file(folder / MASKS).items():
            masks[name] = quantized.unpack_mask(packed, _shape(base.get_submodule(name))[1])
    model = _masked_lora().read(base, folder / "adapter", masks).eval() if beside else base
    tensors = {
        f"{part}/{name}": t
        for part, named in split_tensors(model).items()
        for name, t in named.items()
    }
    size = checkpoint.file_bytes(folder)
    record = measure(model, names, outside, tensors, pattern, adapter, size, str(folder), extent)
    weights = functools.partial(weights_of, model, names)
    return checkpoint.Checkpoint(model, loading.read_tokenizer(folder), tensors, record, weights)


def _read_base(folder: Path, device: str) -> nn.Module:
    from transformers import AutoModelForCausalLM

    config = loading.read_config(folder)
    if getattr(config, "quantization_config", None) is None:
        return loading.read_model(folder).to(device)
    base, found = AutoModelForCausalLM.from_pretrained(
        folder,
        device_map={"": device},
        dtype="auto",
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
    )
    quantized.compute_dequantized(base)
    odd = [*found["missing_keys"], *found["mismatched_keys"], *found["unexpected_keys"]]
    if odd:
        raise PrunegridError(
            f"tensors are missing, misshapen or unexpected: {sorted(map(str, odd))[:3]}",
            where=str(folder),
            remedy="the folder is incomplete: delete it and run again",
        )
    return base.eval()


def _shape(module: nn.Module) -> tuple[int, int]:
    """Return (d_out, d_in) of a linear, packed or not."""
    if quantized.is_packed(module):
        return module.out_features, module.in_features
    return tuple(blocks.oriented(module).shape)


def weights_of(model: nn.Module, names: Iterable[str]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (name, base weight, base and adapter summed), [d_out, d_in], of each named linear."""
    inner = forward.inner(model)
    with torch.no_grad():
        for name in names:
            module = inner.get_submodule(name)
            if _is_adapted(module):
                weight = module.base_weight().detach()
                yield name, weight, weight + module.delta()
                continue
            packed = quantized.is_packed(module)
            weight = quantized.dequantize(module) if packed else blocks.oriented(module)
            yield name, weight, weight


def _is_adapted(module: nn.Module) -> bool:
    """Return whether a linear has an adapter; said without importing peft."""
    return type(module).__name__ == "MaskedLinear"


def _masked_lora() -> ModuleType:
    """Return the module of adapters: peft is imported only where a model has some."""
    with importing("peft"):
        from prunegrid.models import masked_lora

    return masked_lora


def split_tensors(model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Return {"base", "adapter", "masks"}: the tensors in memory by their names in the files."""
    parts: dict[str, dict[str, Tensor]] = {"base": {}, "adapter": {}, "masks": {}}
    for name, value in attestation.model_tensors(forward.inner(model)).items():
        if ".lora_" in name:
            masked_lora = _masked_lora()
            # The adapter's own name ("default") does not stand in the files.
            plain = name.replace(f".{masked_lora.ADAPTER}.", ".")
            parts["adapter"][masked_lora.PREFIX + plain] = value
        else:
            parts["base"][name.replace(".base_layer.", ".")] = value
    if parts["adapter"]:
        for name, layer in _masked_lora().layers(model).items():
            if layer.kept is not None:
                parts["masks"][name] = quantized.pack_mask(layer.kept)
    return parts


def measure(
    model: nn.Module,
    names: list[str],
    outside: set[str],
    tensors: Mapping[str, Tensor],
    pattern: str | None,
    adapter: str,
    file_bytes: int,
    where: str,
    extent: Extent = BLOCKS_ONLY,
) -> dict:
    """Return the WEIGHTS RECORD of a folder's model; packed weights count once, by their places.

    Args:
        names: of the prunable linears; of these, those `outside` the blocks are never packed.
    """
    inner, linears, effective = forward.inner(model), {}, 0
    parameters = nonzero = 0
    inside, kinds = set(), set()
    for name, weight, _ in weights_of(model, names):
        module = inner.get_submodule(name)
        adapted = _is_adapted(module)
        base = module.get_base_layer() if adapted else module
        # Only zeros are counted, so one byte a weight is enough to keep.
        linears[name] = (weight != 0).to(torch.uint8).cpu()
        zeros = int((weight == 0).sum())
        effective += module.effective_zeros(weight) if adapted else zeros
        parameters += weight.numel()
        nonzero += weight.numel() - zeros
        inside.add(id(base.weight))
        dtype = str(weight.dtype).removeprefix("torch.")
        if name not in outside:
            kinds.add(quantized.PACKED.get(type(base).__name__, dtype))
    if len(kinds) != 1:
        raise PrunegridError(f"linears of {len(kinds)} precisions: {sorted(kinds)}", where=where)
    for parameter in model.parameters():
        if id(parameter) not in inside:
            parameters += parameter.numel()
            nonzero += int(torch.count_nonzero(parameter))
    return weights_record.measure(
        tensors,
        linears,
        pattern=pattern,
        precision=kinds.pop(),
        adapter=adapter,
        parameters=parameters,
        nonzero=nonzero,
        file_bytes=file_bytes,
        where=where,
        effective_zeros=effective,
        extent=extent,
    )
