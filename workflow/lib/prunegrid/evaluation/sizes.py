"""The size of a checkpoint on disk in several forms, each written, read back and compared.

Counted are whole files, headers too, of the whole checkpoint, tied weights once. NF4 and int8 are
the codes of fine-tuning on a quantized base (blocks of 64 weights with scales that are quantized
again; one float32 scale a row) of the prunable linears alone. They and bfloat16 are other weights:
their columns are sizes and nothing else.
"""

from __future__ import annotations

import gzip
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from prunegrid.artifacts import artifact_folder
from prunegrid.common.errors import AttestationError
from prunegrid.models.packed import container, tensor_forms
from prunegrid.models.packed.plain_tensors import Plain
from prunegrid.models.packed.tensor_forms import patterns_of

NF4_BLOCK = 64
GZIP_LEVEL = 6


def measure(plain: Plain, pattern: str | None, folder: Path, where: str, gzipped: bool) -> dict:
    """Return {bytes: {form: bytes}, packed_as: {kind: tensors}} of a checkpoint.

    Args:
        plain: its tensors, as a plain model holds them.
        pattern: it was pruned to: "unstructured", "N:M" or None.
        folder: where files are written; each is removed once it is measured.
        where: for errors.
        gzipped: compress the file of weights by gzip too.

    Raises:
        AttestationError: a file that was read back does not hold what was written into it.
        PrunegridError: the disk is too full.
    """
    tensors, sizes = plain.tensors, {}
    parameters = sum(tensor.numel() for tensor in tensors.values())
    artifact_folder.require_space(folder, 4 * parameters + 2**20)
    patterns = patterns_of(pattern)
    with tempfile.TemporaryDirectory(dir=folder, prefix="sizes-") as place:
        path = Path(place, "weights.safetensors")
        for dtype in (torch.float32, torch.bfloat16):
            name = f"dense_{str(dtype).removeprefix('torch.')}"
            sizes[name] = _stored(_cast(tensors, dtype), path, where)
        sizes["nf4"] = _stored(_quantized(plain, _nf4), path, where)
        sizes["int8"] = _stored(_quantized(plain, _int8), path, where)
        sizes["packed"], kinds = _packed(tensors, patterns, path, where)
        narrow = _cast(tensors, torch.bfloat16)
        sizes["packed_bfloat16"], _ = _packed(narrow, patterns, path, where)
        del narrow
        if gzipped:
            sizes["gzip"] = _gzipped(tensors, path, where)
    bits = sum(tensor_forms.count(tensor, patterns).bound_bits() for tensor in tensors.values())
    sizes["entropy_bound"] = math.ceil(bits / 8)
    return {"bytes": sizes, "packed_as": kinds}


def _cast(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in tensors.items()
    }


def _quantized(plain: Plain, code: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors with those of the prunable linears in a code's parts."""
    parts = {}
    for name, tensor in plain.tensors.items():
        if name not in plain.linears:
            parts[name] = tensor.contiguous()
            continue
        weight = tensor.mT if plain.linears[name] else tensor
        weight = weight.reshape(-1, weight.shape[-1])  # fused experts one below the other
        for part, value in code(weight.contiguous()).items():
            parts[name + part] = value.contiguous()
    return parts


def _nf4(weight: Tensor) -> dict[str, Tensor]:
    """Return the parts of a weight [d_out, d_in] in NF4 with double quantization."""
    import bitsandbytes.functional as packed

    code, state = packed.quantize_4bit(
        weight, blocksize=NF4_BLOCK, quant_type="nf4", compress_statistics=True
    )
    return {"": code, **{f".{key}": value for key, value in state.as_dict(packed=True).items()}}


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
    return _remove(path)


def _packed(
    tensors: Mapping[str, Tensor], patterns: tuple[tuple[int, int], ...], path: Path, where: str
) -> tuple[int, dict[str, int]]:
    """Return the bytes of the packed file, and how many tensors have each form in it."""
    kinds = container.write(path, tensors, patterns)
    container.require_same(container.read(path), tensors, where)
    return _remove(path), kinds


def _gzipped(tensors: Mapping[str, Tensor], path: Path, where: str) -> int:
    """Return the bytes of the file of tensors, as stored, compressed by gzip."""
    container.save({n: t.contiguous() for n, t in tensors.items()}, path, {"format": "pt"})
    packed = path.with_suffix(".gz")
    # Without a name and a time in its header, equal files give equal bytes.
    with (
        path.open("rb") as source,
        packed.open("wb") as sink,
        gzip.GzipFile("", "wb", GZIP_LEVEL, sink, mtime=0) as stream,
    ):
        shutil.copyfileobj(source, stream, 2**20)
    with gzip.open(packed) as stream, path.open("rb") as source:
        while piece := source.read(2**20):
            if stream.read(len(piece)) != piece:
                raise AttestationError("gzip gives back other bytes", where=where)
    return _remove(packed)


def _remove(path: Path) -> int:
    size = path.stat().st_size
    path.unlink()
    return size
