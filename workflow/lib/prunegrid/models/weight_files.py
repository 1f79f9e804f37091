"""The tensors of a model folder's weight files, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from prunegrid.common.errors import PrunegridError
from prunegrid.common.model_files import Layout, shards
from prunegrid.models import pickled
from prunegrid.models.attestation import require_finite


def read(folder: Path, layout: Layout) -> dict[str, Tensor]:
    """Return every tensor of the layout's files by the name that the files give it.

    Raises:
        PrunegridError: a file is missing or truncated, or a tensor is not finite.
    """
    tensors: dict[str, Tensor] = {}
    for path in files_of(folder, layout):
        pickle = layout.format == "pickled"
        found = pickled.read(path) if pickle else dict(LazyTensors([path]))
        _require_plain(found, str(path))
        require_finite(found, str(path))
        tensors.update(found)
    return tensors


def _require_plain(tensors: Mapping[str, Tensor], where: str) -> None:
    """Check that no matrix is stored in a format that needs scales beside it.

    Raises:
        PrunegridError: one is in float8, float4 or an integer type.
    """
    for name, tensor in tensors.items():
        is_matrix = tensor.dim() > 1 and name.endswith("weight")
        coded = not tensor.is_floating_point() if is_matrix else False
        if coded or (tensor.is_floating_point() and tensor.dtype.itemsize < 2):
            raise PrunegridError(
                f"{name} is stored as {str(tensor.dtype).removeprefix('torch.')}",
                where=where,
                expected="float32, bfloat16 or float16",
                remedy="name the model that it was quantized from, or dequantize it and save it",
            )


def files_of(folder: Path, layout: Layout) -> list[Path]:
    """Return the weight files of a layout.

    Raises:
        PrunegridError: the index names a file that is missing.
    """
    names = shards(folder / layout.file) if layout.sharded else [layout.file]
    for name in names:
        if not (folder / name).is_file():
            raise PrunegridError(
                f"the index names {name}, which is missing",
                where=str(folder),
                remedy="download or copy the folder again",
            )
    return [folder / name for name in names]


def open_safetensors(path: Path) -> Any:
    """Return the handle of safetensors for one file.

    Raises:
        PrunegridError: it is truncated or not a safetensors file.
    """
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        raise PrunegridError(
            f"not a whole safetensors file ({error})",
            where=str(path),
            remedy="it is truncated or damaged: delete it, and make or download it again",
        ) from error


class LazyTensors(Mapping[str, Tensor]):
    """The tensors of safetensors files by name, each read when it is asked for.

    Raises:
        PrunegridError: a file is not whole, or two files hold the same tensor.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._places: dict[str, Path] = {}
        for path in files:
            with open_safetensors(path) as handle:
                names = handle.keys()
            twice = self._places.keys() & names
            if twice:
                raise PrunegridError(f"two files hold {min(twice)}", where=str(path.parent))
            self._places |= dict.fromkeys(names, path)

    def __getitem__(self, name: str) -> Tensor:
        with safe_open(self._places[name], framework="pt") as handle:
            return handle.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def check_tied(tensors: Mapping[str, Tensor], tied: Mapping[str, str], where: str) -> None:
    """Check that weights which the config ties are the same or given once.

    Args:
        tensors: as the files name them, with or without the base model's prefix.
        tied: {tied name: name of the weight that it repeats}, in the model's names.

    Raises:
        PrunegridError: both are given and differ; transformers would then quietly untie them.
    """
    for copy, original in tied.items():
        first, second = (_find(tensors, name) for name in (copy, original))
        if first is None or second is None or torch.equal(tensors[first], tensors[second]):
            continue
        raise PrunegridError(
            f"the config ties {first} to {second}, and the two differ",
            where=where,
            expected="equal tensors, or tie_word_embeddings: false in its config.json",
            remedy="check which of the two is meant",
        )


def _find(tensors: Iterable[str], name: str) -> str | None:
    """Return the file's name of a tensor: files may lack the leading `model.` or the like."""
    parts = name.split(".")
    spellings = {".".join(parts[start:]) for start in range(len(parts) - 1)}
    matches = [key for key in tensors if key in spellings]
    return max(matches, key=len) if matches else None
