"""The hidden states of all samples at one block boundary: the largest thing that pruning holds.

They lie where the blocks run, in the main memory, or in a file: for a small device. From elsewhere
they come a chunk of samples at a time. None of it changes a number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

PLACES = ("device", "cpu", "disk")


@dataclass(frozen=True)
class Storage:
    """How the hidden states are held.

    Attributes:
        place: "device" (where the blocks run), "cpu" or "disk".
        chunk: samples that come from elsewhere at once.
        folder: where the file of place "disk" is made; removed with the last of its readers.
    """

    place: str = "device"
    chunk: int = 1
    folder: Path | None = None


ON_DEVICE = Storage()


class Boundary:
    """A list of one [1, tokens, d] tensor a sample, each of the same shape and dtype.

    Args:
        count: samples.
        device: where tensors are wanted.
        storage: where they are held.
    """

    def __init__(self, count: int, device: torch.device, storage: Storage) -> None:
        self._count, self._device, self._storage = count, device, storage
        self._held: list[Tensor | None] = [None] * count
        self._near: dict[int, Tensor] = {}
        self._file: int | None = None
        self._shape: tuple[torch.Size, torch.dtype] | None = None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Tensor]:
        return (self[sample] for sample in range(self._count))

    def __getitem__(self, sample: int) -> Tensor:
        if self._storage.place == "device":
            return self._held[sample]
        if sample not in self._near:
            last = min(sample + self._storage.chunk, self._count)
            self._near = dict(zip(range(sample, last), self._fetch(sample, last), strict=True))
        return self._near[sample]

    def __setitem__(self, sample: int, value: Tensor) -> None:
        self._near.pop(sample, None)
        if self._storage.place != "disk":
            place = self._device if self._storage.place == "device" else "cpu"
            self._held[sample] = value.to(place)
            return
        if self._file is None:
            self._open()
        self._shape = (value.shape, value.dtype)
        data = value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        os.pwrite(self._file, memoryview(data), sample * data.nbytes)

    def _open(self) -> None:
        folder = self._storage.folder
        if folder is None:
            raise ValueError("place disk needs a folder")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"hidden-{id(self)}.bin"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        # The open file lives on without its name, and goes with the process whatever ends it.
        path.unlink()

    def _fetch(self, first: int, last: int) -> list[Tensor]:
        """Return samples first…last on the device."""
        if self._storage.place == "cpu":
            return [value.to(self._device, non_blocking=True) for value in self._held[first:last]]
        shape, dtype = self._shape
        size = shape.numel() * dtype.itemsize
        data = bytearray(os.pread(self._file, size * (last - first), size * first))
        whole = torch.frombuffer(data, dtype=dtype).reshape(last - first, *shape)
        return list(whole.to(self._device).unbind(0))

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)
