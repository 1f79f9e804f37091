"""What a checkpoint takes on disk in several forms, each really written, read back and compared.

Counted are whole files, headers too, of the whole checkpoint: what is not prunable is in each of
them, tied weights once. NF4 and int8 are what fine-tuning on a quantized base stores (blocks of
64 weights with scales that are quantized again; one float32 scale a row), of the prunable linears
alone, all else as it is. They and bfloat16 are other weights, whose quality nobody measured here:
their columns are sizes and nothing else.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from prunegrid.artifacts import artifact_folder
from prunegrid.models.packed import container, tensor_forms
from prunegrid.models.packed.plain_tensors import Plain
from prunegrid.models.packed.tensor_forms import patterns_of

NF4_BLOCK = 64


def measure(plain: Plain, pattern: str | None, folder: Path, where: str) -> dict:
    """Return {bytes: {form: bytes}, packed_as: {kind: tensors}} of a checkpoint.

    Args:
        plain: as a plain model holds them.
        pattern: what it was pruned to: "unstructured", "N:M" or None.
        folder: where files are written; each is removed once it is measured.
        where: for errors.

    Raises:
        AttestationError: a file that was read back does not hold what was written into it.
        PrunegridError: the disk is too full.
    """
    tensors = plain.tensors
    parameters = sum(tensor.numel() for tensor in tensors.values())
    artifact_folder.require_space(folder, 4 * parameters + 2**20)
    patterns = patterns_of(pattern)
    found: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir=folder, prefix="sizes-") as place:
        path = Path(place, "weights.safetensors")
        for dtype in (torch.float32, torch.bfloat16):
            name = f"dense_{str(dtype).removeprefix('torch.')}"
            found[name] = _stored(_cast(tensors, dtype), path, where)
        for name, code in (("nf4", _nf4), ("int8", _int8)):
            found[name] = _stored(_quantized(plain, code), path, where)
        found["packed"], kinds = _packed(tensors, patterns, path, where)
        narrow = _Cast(tensors, torch.bfloat16)
        found["packed_bfloat16"], _ = _packed(narrow, patterns, path, where)
    bits = sum(tensor_forms.count(tensor, patterns).bound_bits() for tensor in tensors.values())
    found["entropy_bound"] = math.ceil(bits / 8)
    return {"bytes": found, "packed_as": kinds}


class _Cast(Mapping[str, Tensor]):
    """Tensors in another floating-point dtype, cast when they are asked for."""

    def __init__(self, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        self._tensors, self._dtype = tensors, dtype

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _cast(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in _Cast(tensors, dtype).items()}


def _quantized(plain: Plain, code: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors with those of the prunable linears in a code's parts."""
    made = {}
    for name, tensor in plain.tensors.items():
        if name not in plain.linears:
            made[name] = tensor.contiguous()
            continue
        weight = tensor.t() if plain.linears[name] else tensor
        for part, value in code(weight.contiguous()).items():
            made[name + part] = value.contiguous()
    return made


def _nf4(weight: Tensor) -> dict[str, Tensor]:
    """Return the parts of a weight [d_out, d_in] in NF4 with double quantization."""
    import bitsandbytes.functional as packed

    code, state = packed.quantize_4bit(
        weight, blocksize=NF4_BLOCK, quant_type="nf4", compress_statistics=True
    )
    about = {f".{key}": value for key, value in state.as_dict(packed=True).items()}
    return {"": code, **about}


def _int8(weight: Tensor) -> dict[str, Tensor]:
    """Return the parts of a weight [d_out, d_in] in int8 with one scale a row."""
    import bitsandbytes.functional as packed

    code, scales, _ = packed.int8_vectorwise_quant(weight.to(torch.float16))
    return {"": code, ".SCB": scales}


def _stored(tensors: dict[str, Tensor], path: Path, where: str) -> int:
    """Return the bytes of a file of tensors, written, read back and removed."""
    container.save(tensors, path, {"format": "pt"})
    with safe_open(path, framework="pt") as handle:
        names = list(handle.keys())
        container.require_same(((name, handle.get_tensor(name)) for name in names), tensors, where)
    return _removed(path)


def _packed(
    tensors: Mapping[str, Tensor],
    patterns: tuple[tuple[int, int], ...],
    path: Path,
    where: str,
) -> tuple[int, dict[str, int]]:
    """Return the bytes of the packed file, and how many tensors have each form in it."""
    kinds = container.write(path, tensors, patterns)
    container.require_same(container.read(path), tensors, where)
    return _removed(path), kinds


def _removed(path: Path) -> int:
    size = path.stat().st_size
    path.unlink()
    return size
