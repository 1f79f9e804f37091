"""Files of packed tensors: safetensors, each tensor in the smallest form that loses no bit.

The file holds a dense tensor `x` as `x`, others by their parts `x#mask`, `x#codes`, `x#values`,
`x#scales`, `x#signs` (see `prunegrid.models.packed.tensor_forms`). Its metadata `prunegrid` (JSON)
says which: `{"format": "prunegrid-packed", "version": 2, "tensors": {name: {form, shape, …}}}`.
Version 1, which has no int8 values, is read too.

Anyone may have written a file: reading allocates nothing before the size fits the parts that are
there, and every fault is one PrunegridError.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.common.file_io import canonical_json
from prunegrid.models.packed import byte_groups, tensor_forms
from prunegrid.models.packed.tensor_forms import Form
from prunegrid.models.weight_files import open_safetensors

FORMAT = "prunegrid-packed"
VERSION = 2
READABLE = (1, 2)
METADATA = "prunegrid"
_MARK = "#"
_KEYS = {
    "dense": {"form"},
    "mask": {"form", "shape"},
    "nm": {"form", "shape", "keep", "group", "axis"},
}


def write(
    path: Path, tensors: Mapping[str, Tensor], patterns: tuple[tuple[int, int], ...]
) -> dict[str, int]:
    """Write the tensors into one file; return how many have each form.

    All parts are in memory at once, and one tensor beside them.

    Args:
        tensors: on the CPU, by name; read one by one.
        patterns: (N, M) of the `nm` forms to try.

    Raises:
        PrunegridError: a name cannot be written.
    """
    entries, parts, kinds = {}, {}, dict.fromkeys(_KEYS, 0)
    for name in sorted(tensors):
        if _MARK in name:
            raise PrunegridError(
                f"a tensor is named {name!r}", where=str(path), expected=f"names without {_MARK}"
            )
        tensor = tensors[name]
        form = tensor_forms.choose(tensor_forms.count(tensor, patterns))
        entries[name] = form.entry(list(tensor.shape))
        kinds[form.kind] += 1
        for part, value in tensor_forms.encode(tensor, form).items():
            parts[_part_name(name, part)] = value
    about = {"format": FORMAT, "version": VERSION, "tensors": entries}
    save(parts, path, {METADATA: canonical_json(about)})
    return kinds


def save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file.

    Raises:
        PrunegridError: it cannot be written.
    """
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        raise PrunegridError(
            f"could not be written ({error})", where=str(path), remedy="free some space there"
        ) from error


def read(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of a file by name, one at a time.

    Raises:
        PrunegridError: the file is missing, truncated, or its parts do not fit each other.
    """
    with open_safetensors(path) as handle:
        entries = _entries(handle.metadata(), str(path))
        present = set(handle.keys())
        expected = {name: _parts(name, entries[name][0], present) for name in entries}
        named = {part for parts in expected.values() for part in parts.values()}
        if named != present:
            odd = sorted(named ^ present)
            raise PrunegridError(
                f"{len(odd)} parts of tensors are missing or not named by its header, the first is "
                f"{odd[0]!r}",
                where=str(path),
            )
        for name, (form, shape) in entries.items():
            try:
                parts = {part: handle.get_tensor(full) for part, full in expected[name].items()}
                dense = shape is None
                yield name, parts[""] if dense else tensor_forms.decode(form, shape, parts)
            except SafetensorError as error:
                raise PrunegridError(f"{name}: {error}", where=str(path)) from error
            except PrunegridError as error:
                raise PrunegridError(
                    f"{name}: {error.what}",
                    where=str(path),
                    expected=error.expected,
                    remedy="it was damaged: pack it or download it again",
                ) from error


def require_same(
    stored: Iterable[tuple[str, Tensor]], tensors: Mapping[str, Tensor], where: str
) -> None:
    """Check that the tensors in a file are those that were to be written, bit for bit.

    Raises:
        AttestationError: one is missing, too many, or differs.
    """
    left = set(tensors)
    for name, tensor in stored:
        if name not in left or not same_bits(tensor, tensors[name]):
            raise AttestationError(
                f"the tensor {name} read back from the file is not the one written",
                where=where,
                remedy="the disk or the writer is at fault: run again, and report it if it stays",
            )
        left.remove(name)
    if left:
        raise AttestationError(f"the file lacks the tensor {min(left)}", where=where)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors on the CPU have the same dtype, shape and bits."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    left, right = (t.contiguous().reshape(-1).view(torch.uint8).numpy() for t in (a, b))
    return np.array_equal(left, right)  # much faster than torch's on bytes


def _part_name(name: str, part: str) -> str:
    return f"{name}{_MARK}{part}" if part else name


def _parts(name: str, form: Form, present: set[str]) -> dict[str, str]:
    """Return part → name in the file of one tensor."""
    parts = {part: _part_name(name, part) for part in tensor_forms.parts_of(form)}
    signs = _part_name(name, "signs")
    if form.kind != "dense" and signs in present:
        parts["signs"] = signs
    return parts


def _entries(
    metadata: Mapping[str, str] | None, where: str
) -> dict[str, tuple[Form, list[int] | None]]:
    """Return name → (form, shape) out of a file's metadata; dense tensors have the shape None."""
    try:
        about = json.loads((metadata or {}).get(METADATA, "null"))
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise ValueError("not of this format")
        if about.get("version") not in READABLE:
            raise ValueError(f"version {about.get('version')!r}")
        if not isinstance(about.get("tensors"), dict):
            raise ValueError("no tensors")
        return {name: read_entry(name, entry) for name, entry in about["tensors"].items()}
    except (ValueError, RecursionError) as error:
        raise PrunegridError(
            f"its header cannot be read ({error})",
            where=where,
            expected=f"a file of the format {FORMAT}, version {VERSION}",
            remedy="it was damaged, or written by another version: pack the weights again",
        ) from error


def read_entry(name: str, entry: Any) -> tuple[Form, list[int] | None]:
    """Return the form and shape of one entry.

    Raises:
        ValueError: it describes no tensor.
    """
    kind = entry.get("form") if isinstance(entry, dict) else None
    known = _KEYS.get(kind) if isinstance(kind, str) else None
    int8 = isinstance(entry, dict) and kind in ("mask", "nm") and "values" in entry
    if known is not None and int8:
        known = known | {"axis", "values"}
    if _MARK in name or known is None or set(entry) != known:
        raise ValueError(f"{name}: {entry!r}"[:200])
    if kind == "dense":
        return Form(), None
    shape = entry["shape"]
    if not isinstance(shape, list) or not all(_is_count(size) for size in shape):
        raise ValueError(f"{name}: shape {shape}")
    axis = entry.get("axis", 1)
    if type(axis) is not int or axis not in (0, 1):
        raise ValueError(f"{name}: axis {axis}")
    if int8 and (entry["values"] != tensor_forms.INT8 or len(shape) not in (2, 3)):
        raise ValueError(f"{name}: values {entry['values']} in the shape {shape}")
    if math.prod(shape) > 2**62:
        raise ValueError(f"{name}: shape {shape}")
    if kind == "mask":
        return Form("mask", axis=axis, int8=int8), shape
    keep, group = entry["keep"], entry["group"]
    if not (_is_count(keep) and _is_count(group) and keep < group <= byte_groups.LARGEST_GROUP):
        raise ValueError(f"{name}: keeps {keep} of {group}")
    if len(shape) not in (2, 3) or shape[axis - 2] % group:
        raise ValueError(f"{name}: groups of {group} in the shape {shape}")
    return Form("nm", keep, group, axis, int8), shape


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**62
