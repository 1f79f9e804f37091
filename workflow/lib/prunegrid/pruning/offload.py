"""Offloading: only one block of a model is in memory, for models larger than the machine.

The model is built without its weights. What lies outside the blocks (embeddings, norms, the head)
is read at once, a block's tensors when it is called or made resident, and released after it. A
pruned block is written as a shard of the new folder (`prunegrid.models.shards`) before it goes. The
numbers are those of the model read as a whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers.initialization import no_init_weights

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io, malloc, precision
from prunegrid.common.errors import PrunegridError
from prunegrid.models import attestation, checkpoint
from prunegrid.models.blocks import find_blocks
from prunegrid.models.loading import (
    auto_class,
    compute_in,
    kind_of,
    read_config,
    read_tokenizer,
    widened,
)
from prunegrid.models.prunable import Extent, LazyLinears
from prunegrid.models.shards import ShardWriter, measure
from prunegrid.pruning.holding import ON_DEVICE, Holding, Storage


def empty_model(config) -> nn.Module:
    """Return the model of a config as plain transformers builds it, without its weights."""
    with init_empty_weights(include_buffers=False), no_init_weights():
        model = auto_class(kind_of(config)).from_config(config, dtype=config.dtype).eval()
    model.tie_weights()  # each parameter was replaced by an empty one of its own
    return model


class ByBlock(Holding):
    """A plain folder's model, of which one block at a time is in memory.

    Attributes:
        model: in eval mode; its blocks can be called, and read themselves for it.
        tokenizer: None where the folder holds none.
        dtype: that the folder is stored in.

    Args:
        device: where blocks run.
        compute_dtype: tensors stored in less are widened when they are read.
        storage: where hidden states between blocks are held.
    """

    whole = False

    def __init__(
        self,
        folder: Path,
        device: str,
        compute_dtype: str = "bfloat16",
        storage: Storage = ON_DEVICE,
    ) -> None:
        super().__init__(storage)
        malloc.give_back()
        config = read_config(folder)
        self.model = empty_model(config)
        self.tokenizer = read_tokenizer(folder, self.model)
        self.blocks = find_blocks(self.model)
        if self.blocks.twins:
            raise PrunegridError(
                f"its blocks share weights: {', '.join(sorted(self.blocks.twins)[:3])}",
                where=str(folder),
                expected="blocks with weights of their own, to hold one at a time",
                remedy="set memory.model to whole",
            )
        self.dtype: torch.dtype = config.dtype
        self._tensors = checkpoint.stored_tensors(folder)
        self._device, self._compute_dtype, self._pinned = device, compute_dtype, -1
        self._load_outside()
        for index, block in enumerate(self.blocks.modules):
            block.register_forward_pre_hook(lambda *_, index=index: self.load_block(index))
            block.register_forward_hook(lambda *_, index=index: self._release(index))

    def weights_of(self, linears: Mapping[str, nn.Module]) -> Mapping[str, Tensor]:
        """Return the weights [d_out, d_in] of linears as the folder holds them, read when asked."""
        return LazyLinears(linears, self._tensors)

    def _load_outside(self) -> None:
        """Read the tensors that belong to no block, and move buffers to the device."""
        inside = tuple(f"{name}." for name in self.blocks.names)
        outside = {n: self._read(n) for n in self._tensors if not n.startswith(inside)}
        self.model.load_state_dict(outside, strict=False, assign=True)
        self.model.tie_weights()
        for name in getattr(self.model, "_keys_to_ignore_on_save", None) or ():
            self._compute(self.model.get_submodule(name.rpartition(".")[0]))
        for name, buffer in self.model.named_buffers():
            if buffer.device.type != "meta":
                owner, _, leaf = name.rpartition(".")
                self.model.get_submodule(owner)._buffers[leaf] = buffer.to(self._device)

    def _compute(self, module: nn.Module) -> None:
        """Fill a module that the model computes and no file holds (Marian's positions)."""
        module.to_empty(device="cpu")
        self.model._init_weights(module)
        for tensor in module.parameters():
            tensor.data = widened(tensor.data, self._compute_dtype).to(self._device)

    def _read(self, name: str) -> Tensor:
        return widened(self._tensors[name], self._compute_dtype).to(self._device)

    def load_block(self, index: int) -> None:
        """Read a block's tensors, unless it has them."""
        block, prefix = self.blocks.modules[index], f"{self.blocks.names[index]}."
        # One that only stands in for itself needs no weights.
        if "forward" in block.__dict__ or next(block.parameters()).device.type != "meta":
            return
        tensors = {
            name.removeprefix(prefix): self._read(name)
            for name in self._tensors
            if name.startswith(prefix)
        }
        block.load_state_dict(tensors, assign=True)
        block.requires_grad_(False)

    def _release(self, index: int) -> None:
        if index == self._pinned:
            return
        for module in self.blocks.modules[index].modules():
            for name, value in module._parameters.items():
                if value is not None:
                    empty = torch.empty_like(value, device="meta")
                    module._parameters[name] = nn.Parameter(empty, requires_grad=False)

    @contextlib.contextmanager
    def resident(self, index: int) -> Iterator[None]:
        """Keep a block in memory, as it is changed, until the context ends."""
        self.load_block(index)
        self._pinned = index
        try:
            yield
        finally:
            self._pinned = -1
            self._release(index)


@dataclass(frozen=True)
class Dense:
    """A model that is to be measured or pruned, attested, held as the config says.

    Attributes:
        folder, record: its artifact, and the WEIGHTS RECORD of that.
        tokenizer: None where the folder holds none.
        dtype: of the folder's floats; the model computes in this or a wider one.
    """

    folder: Path
    model: nn.Module
    tokenizer: Any
    holding: Holding
    record: dict
    dtype: torch.dtype

    def writer(self, out: Path, extent: Extent) -> ShardWriter:
        """Return a writer of a folder that differs from this one in what `extent` says."""
        return ShardWriter(self.folder, self.model, self.tokenizer, out, extent)


def open_dense(folder: Path, job) -> Dense:
    """Return the model of a plain weights artifact, whole or by block.

    Args:
        job: gives the device, `memory` {model: "whole" or "by-block", activations, chunk}, scratch.

    Raises:
        AttestationError: the weights are not the ones that the manifest records.
    """
    storage = Storage.of(job)
    if job.memory["model"] == "whole":
        loaded = checkpoint.load(folder, job.device)
        dtype = loaded.model.dtype
        compute_in(loaded.model, precision.of_job(job))
        return Dense(folder, loaded.model, loaded.tokenizer, Holding(storage), loaded.record, dtype)
    source = ByBlock(folder, job.device, precision.of_job(job), storage)
    recorded = file_io.read_json(folder / artifact_folder.MANIFEST)["record"]["weights"]
    extent = Extent.of(recorded)
    record = measure(source.model, folder, recorded["pattern"], recorded["adapter"], extent)
    attestation.require_same(record, recorded, str(folder))
    return Dense(folder, source.model, source.tokenizer, source, record, source.dtype)
