"""The one place that reads a pickle: `pytorch_model.bin`, by torch's loader of plain tensors alone.

`weights_only=True` lets the unpickler build tensors and containers and nothing else; a file that
asks for anything more is refused before any of it runs.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from prunegrid.common.errors import PrunegridError


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of one `.bin` file by their names, on the CPU.

    Raises:
        PrunegridError: it holds anything but tensors by name, or is truncated.
    """
    try:
        # Memory-mapped, so that only what is copied into the model is read; the old tar-like
        # format cannot be mapped.
        mapped = zip_format(path)
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise PrunegridError(
            "the file asks to run code or to build objects that are not tensors; none of it was "
            "loaded",
            where=str(path),
            expected="a pickle that holds tensors by name and nothing else",
            remedy="use a safetensors version of this model from a source that you trust",
        ) from error
    except Exception as error:  # a damaged pickle ends torch's unpickler by whatever it stumbles on
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PrunegridError(
            f"not readable as PyTorch weights ({reason})",
            where=str(path),
            remedy="it is truncated or damaged: delete it and download it again",
        ) from error
    if not isinstance(found, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in found.items()
    ):
        raise PrunegridError(
            "the file does not hold tensors by name",
            where=str(path),
            expected="a flat state dict",
            remedy="use a model that was saved by save_pretrained",
        )
    return dict(found)


def zip_format(path: Path) -> bool:
    """Return whether the file is in the zip format of torch ≥ 1.6."""
    with open(path, "rb") as handle:
        return handle.read(4) == b"PK\x03\x04"
