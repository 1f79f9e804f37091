"""Where a model and its hidden states are held while it is pruned; it changes no number.

A model is whole in memory, or a block at a time (`pruning.offload`). The hidden states of all
samples at one block boundary are the largest thing beside it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from prunegrid.models.blocks import weights_in_memory
from prunegrid.models.experts import one_by_one


@dataclass(frozen=True)
class Storage:
    """Where the hidden states are held.

    Attributes:
        place: "device" (where the blocks run), "cpu" or "disk".
        chunk: samples that come to the device at once.
        folder: of the nameless file of place "disk", which goes with the process.
    """

    place: str = "device"
    chunk: int = 1
    folder: Path | None = None

    @classmethod
    def of(cls, job) -> Storage:
        """Return what a step's `memory` {activations, chunk} says, in its scratch folder."""
        return cls(job.memory["activations"], job.memory["chunk"], job.scratch)


ON_DEVICE = Storage()


class Boundary:
    """A list of `count` tensors [1, tokens, d], given on `device`.

    A decoder's may have another shape than those of the encoder before it, whose places they take.
    """

    def __init__(self, count: int, device: torch.device, storage: Storage) -> None:
        self._device, self._storage = device, storage
        self._held: list[Tensor | None] = [None] * count
        self._near: dict[int, Tensor] = {}
        # Of place "disk": each sample's offset, bytes, shape and dtype in the file, and its end.
        self._places: dict[int, tuple[int, int, torch.Size, torch.dtype]] = {}
        self._end = 0
        self._file: int | None = None
        if storage.place == "disk":
            storage.folder.mkdir(parents=True, exist_ok=True)
            self._file, path = tempfile.mkstemp(dir=storage.folder, prefix="hidden-")
            # The open file lives on without its name, and goes with the process whatever ends it.
            os.unlink(path)

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[sample] for sample in range(len(self)))

    def __getitem__(self, sample: int) -> Tensor:
        if self._storage.place == "device":
            return self._held[sample]
        if sample not in self._near:
            last = min(sample + self._storage.chunk, len(self))
            self._near = dict(zip(range(sample, last), self._fetch(sample, last), strict=True))
        return self._near[sample]

    def __setitem__(self, sample: int, value: Tensor) -> None:
        self._near.pop(sample, None)
        if self._storage.place != "disk":
            place = self._device if self._storage.place == "device" else "cpu"
            self._held[sample] = value.to(place)
            return
        data = value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        offset, size, *_ = self._places.get(sample, (self._end, 0))
        if size != data.nbytes:
            offset, self._end = self._end, self._end + data.nbytes
        self._places[sample] = offset, data.nbytes, value.shape, value.dtype
        os.pwrite(self._file, memoryview(data), offset)

    def _fetch(self, first: int, last: int) -> list[Tensor]:
        """Return samples first…last on the device."""
        if self._storage.place == "cpu":
            return [value.to(self._device, non_blocking=True) for value in self._held[first:last]]
        found = []
        for offset, size, shape, dtype in map(self._places.__getitem__, range(first, last)):
            data = bytearray(os.pread(self._file, size, offset))
            found.append(torch.frombuffer(data, dtype=dtype).reshape(shape).to(self._device))
        return found

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


class Holding:
    """A model that is whole in memory.

    Attributes:
        whole: False if only one block is in memory at a time.
        storage: how hidden states between blocks are held.
    """

    whole = True

    def __init__(self, storage: Storage = ON_DEVICE) -> None:
        self.storage = storage

    def resident(self, index: int) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the block of an index is in memory, as it is changed."""
        return contextlib.nullcontext()

    def weights_of(self, linears: Mapping[str, nn.Module]) -> Mapping[str, Tensor]:
        """Return the weights [d_out, d_in] of some linears, by the same names."""
        return weights_in_memory(linears)


WHOLE = Holding()


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, its experts multiplied one by one, inside the context."""
    training = model.training
    model.eval()
    try:
        with one_by_one(model):
            yield
    finally:
        model.train(training)
