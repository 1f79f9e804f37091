"""The number of parameters of a model on disk, by the headers and sizes of its files alone."""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from prunegrid.common.errors import PrunegridError
from prunegrid.common.model_files import choose, shards

# Bytes of an element, by the dtype in a model's config; without one it is float32.
DTYPE_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
# Of a GGUF file, most of which hold 4 to 6 bits a weight. The gguf package takes 3 s for
# the header, since it reads each word of the tokenizer first.
GGUF_BYTES = 0.7
_FAULTS = (PrunegridError, OSError, ValueError, TypeError, KeyError, AttributeError)
_FAULTS += (ArithmeticError, RecursionError, MemoryError, SafetensorError)


@functools.cache
def parameters_of(place: Path) -> int | None:
    """Return the parameters of a model folder or a `.gguf` file; None if its files do not tell.

    No tensor is read. Safetensors have the shapes in their headers. Of other files, and of damaged
    ones, the size tells, divided by the bytes of the config's dtype; of GGUF by `GGUF_BYTES`.
    """
    with contextlib.suppress(*_FAULTS):  # the step that reads the files names the fault
        is_folder = place.is_dir()
        count = _of_folder(place) if is_folder else int(place.stat().st_size / GGUF_BYTES)
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
    """Return the elements of a safetensors file."""
    with safe_open(path, framework="np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.offset_keys())


def _element_bytes(folder: Path) -> int:
    config: Mapping[str, Any] = {}
    with contextlib.suppress(*_FAULTS):
        config = json.loads((folder / "config.json").read_bytes())
    dtype = str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch.")
    return DTYPE_BYTES.get(dtype, 4)
