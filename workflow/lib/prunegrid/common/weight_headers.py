"""The number of parameters of a model on disk, by the headers and sizes of its files alone."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from prunegrid.common.errors import PrunegridError
from prunegrid.common.model_files import choose, shards

# Bytes of an element, by the dtype in a model's config; without one it is float32.
DTYPE_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
# Values of a GGUF file's metadata, by their type (the format's specification, ggml's docs/gguf.md).
_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT, _LIST = 8, 9
_SIDES = 4  # a tensor's dimensions at most
_FAULTS = (PrunegridError, OSError, ValueError, TypeError, KeyError, AttributeError)
_FAULTS += (ArithmeticError, RecursionError, MemoryError, struct.error)


@functools.cache
def parameters_of(place: Path) -> int | None:
    """Return the parameters of a model folder or a `.gguf` file; None if its files do not tell.

    No tensor is read. Safetensors and GGUF have the shapes in their headers. Of other files, and of
    damaged ones, the size tells, divided by the bytes of the config's dtype.
    """
    with contextlib.suppress(*_FAULTS):  # the step that reads the files names the fault
        count = _of_folder(place) if place.is_dir() else _of_gguf(place)
        return count if count > 0 else None
    return None


def _of_folder(folder: Path) -> int:
    layout = choose([path.name for path in folder.iterdir()], str(folder))
    names = shards(folder / layout.file) if layout.sharded else [layout.file]
    if layout.format == "safetensors":
        with contextlib.suppress(*_FAULTS):
            return sum(_of_safetensors(folder / name) for name in names)
    size = sum((folder / name).stat().st_size for name in names)
    return size // _element_bytes(folder)


def _of_safetensors(path: Path) -> int:
    """Return the elements of a safetensors file: 8 bytes of length, then JSON with the shapes."""
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        if length > path.stat().st_size:
            raise ValueError("it is cut short")
        tensors = json.loads(file.read(length))
    tensors.pop("__metadata__", None)
    return sum(int(math.prod(tensor["shape"])) for tensor in tensors.values())


def _element_bytes(folder: Path) -> int:
    config: Mapping[str, Any] = {}
    with contextlib.suppress(*_FAULTS):
        config = json.loads((folder / "config.json").read_bytes())
    dtype = str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch.")
    return DTYPE_BYTES.get(dtype, 4)


def _of_gguf(path: Path) -> int:
    """Return the elements of a GGUF file's tensors.

    The gguf package reads each word of the tokenizer on the way, which takes seconds.
    """
    with path.open("rb") as file:
        magic, _, tensors, values = _read(file, "<4sIQQ")
        if magic != b"GGUF":
            raise ValueError("no GGUF file")
        for _ in range(values):
            _skip_text(file)
            _skip_value(file, _read(file, "<I")[0])
        return sum(_elements(file) for _ in range(tensors))


def _elements(file: BinaryIO) -> int:
    """Return the elements of the next tensor: its name, its shape, its type, its place."""
    _skip_text(file)
    sides = _read(file, "<I")[0]
    if sides > _SIDES:
        raise ValueError("no shape of a tensor")
    shape = _read(file, f"<{sides}Q")
    _read(file, "<IQ")
    return math.prod(shape)


def _skip_value(file: BinaryIO, kind: int) -> None:
    if kind == _TEXT:
        _skip_text(file)
    elif kind == _LIST:
        item, count = _read(file, "<IQ")
        if item in _BYTES:
            file.seek(_BYTES[item] * count, 1)
        else:
            for _ in range(count):
                _skip_value(file, item)
    else:
        file.seek(_BYTES[kind], 1)


def _skip_text(file: BinaryIO) -> None:
    file.seek(_read(file, "<Q")[0], 1)


def _read(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
