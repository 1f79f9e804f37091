"""A model of which only one block is in memory: for models that are larger than the machine.

The model is built without its weights. What lies outside the blocks (embeddings, norms, the head)
is read at once; a block's tensors are read from the safetensors files when it is called, or when it
is made resident, and let go after it. What a step makes of a block is written as a shard of the
new folder before it goes. The numbers are those of the model read as a whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from prunegrid import artifacts, attest, checkpoint, malloc, weights_record
from prunegrid.blocks import find_blocks, is_transposed
from prunegrid.extent import BLOCKS_ONLY, Extent
from prunegrid.loading import auto_class, kind_of, read_tokenizer
from prunegrid.pruning.boundary import Storage
from prunegrid.pruning.holding import Holding


class LazyTensors(Mapping[str, Tensor]):
    """The tensors of a plain folder by name, each read from its file when it is asked for."""

    def __init__(self, folder: Path) -> None:
        checkpoint.check_files(folder)
        self._places: dict[str, Path] = {}
        for path in checkpoint.weight_files(folder):
            with safe_open(path, framework="pt") as handle:
                self._places |= dict.fromkeys(handle.keys(), path)

    def __getitem__(self, name: str) -> Tensor:
        with safe_open(self._places[name], framework="pt") as handle:
            return handle.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class _Linears(Mapping[str, Tensor]):
    """The weights [d_out, d_in] of some linears, each read when it is asked for.

    With `biases` theirs too, [1, d_out], by the names that `Extent.tensors` gives them.
    """

    def __init__(
        self,
        linears: Mapping[str, nn.Module],
        tensors: Mapping[str, Tensor],
        biases: bool = False,
    ) -> None:
        self._linears, self._tensors = linears, tensors
        self._biases = [f"{n}.bias" for n in linears if f"{n}.bias" in tensors] if biases else []

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._linears:
            return self._tensors[name][None]
        weight = self._tensors[f"{name}.weight"]
        return weight.t() if is_transposed(self._linears[name]) else weight

    def __iter__(self) -> Iterator[str]:
        return iter([*self._linears, *self._biases])

    def __len__(self) -> int:
        return len(self._linears) + len(self._biases)


class ByBlock:
    """A plain folder's model, of which one block at a time is in memory.

    Attributes:
        model: in eval mode; its blocks can be called, and read themselves for it.
        blocks: its blocks.
        tokenizer: None where the folder holds none.
        tensors: the folder's tensors, read when asked for.

    Args:
        folder: as `save_pretrained` writes it.
        device: where blocks run.
    """

    def __init__(self, folder: Path, device: str) -> None:
        from transformers import AutoConfig

        malloc.give_back()
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        with init_empty_weights(include_buffers=False):
            self.model = auto_class(kind_of(config)).from_config(config, dtype=config.dtype)
        self.model.eval()
        self.tokenizer = read_tokenizer(folder)
        self.tensors = LazyTensors(folder)
        self.blocks = find_blocks(self.model)
        self._device, self._pinned = device, -1
        self._load_outside()
        for index, block in enumerate(self.blocks.modules):
            block.register_forward_pre_hook(lambda *_, index=index: self._load(index))
            block.register_forward_hook(lambda *_, index=index: self._let_go(index))

    def outside(self) -> list[str]:
        """Return the names of the tensors that belong to no block."""
        inside = tuple(f"{name}." for name in self.blocks.names)
        return [name for name in self.tensors if not name.startswith(inside)]

    def weights_of(self, linears: Mapping[str, nn.Module]) -> Mapping[str, Tensor]:
        """Return the weights [d_out, d_in] of linears as the folder holds them, read when asked."""
        return _Linears(linears, self.tensors)

    def _load_outside(self) -> None:
        found = {name: self.tensors[name].to(self._device) for name in self.outside()}
        self.model.load_state_dict(found, strict=False, assign=True)
        self.model.tie_weights()
        for name, buffer in self.model.named_buffers():
            if buffer.device.type != "meta":
                owner, _, leaf = name.rpartition(".")
                self.model.get_submodule(owner)._buffers[leaf] = buffer.to(self._device)

    def _load(self, index: int) -> None:
        block, prefix = self.blocks.modules[index], f"{self.blocks.names[index]}."
        # One that only stands in for itself needs no weights.
        if "forward" in block.__dict__ or next(block.parameters()).device.type != "meta":
            return
        found = {
            name.removeprefix(prefix): self.tensors[name].to(self._device)
            for name in self.tensors
            if name.startswith(prefix)
        }
        block.load_state_dict(found, assign=True)
        block.requires_grad_(False)

    def _let_go(self, index: int) -> None:
        if index == self._pinned:
            return
        for module in self.blocks.modules[index].modules():
            for name, value in module._parameters.items():
                if value is not None:
                    empty = torch.empty_like(value, device="meta")
                    module._parameters[name] = nn.Parameter(empty, requires_grad=False)

    def holding(
        self,
        storage: Storage,
    ) -> Holding:
        """Return how the pruning engine is to hold this model."""
        return Holding(False, self.resident, self.weights_of, storage)

    @contextlib.contextmanager
    def resident(self, index: int) -> Iterator[None]:
        """Keep a block in memory, as it is changed, until the context ends."""
        self._load(index)
        self._pinned = index
        try:
            yield
        finally:
            self._pinned = -1
            self._let_go(index)


class ShardWriter:
    """Writes a plain folder that differs from another in its linears, a block at a time.

    Args:
        source: the folder that all other tensors are of.
        model: of its architecture; its weights are not looked at.
        tokenizer: saved beside it; None saves none.
        out: an existing folder.
        extent: what counts as prunable.
    """

    def __init__(
        self,
        source: Path,
        model: nn.Module,
        tokenizer: Any,
        out: Path,
        extent: Extent = BLOCKS_ONLY,
    ) -> None:
        self._tensors, self._model, self._tokenizer = LazyTensors(source), model, tokenizer
        self._out, self._extent = out, extent
        blocks = find_blocks(model, include=extent.include)
        # A shard a block, one for what was pruned outside of them, one for the rest.
        self._total = len(blocks.names) + bool(blocks.outside) + 1
        self._places: dict[str, str] = {}
        self._shards = self._bytes = 0

    def add_block(self, block: str, linears: Mapping[str, Tensor]) -> None:
        """Write a block's shard.

        Args:
            block: its name, or OUTSIDE.
            linears: the new weights [d_out, d_in] by full linear name, and biases [1, d_out]; the
                others stay.
        """
        tensors = {n: self._tensors[n] for n in self._tensors if n.startswith(f"{block}.")}
        for name, weight in linears.items():
            if name.endswith(".bias"):
                tensors[name] = weight[0]
                continue
            flipped = is_transposed(self._model.get_submodule(name))
            tensors[f"{name}.weight"] = weight.t() if flipped else weight
        self._add(tensors)

    def _add(self, tensors: Mapping[str, Tensor]) -> None:
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        size = sum(value.numel() * value.element_size() for value in plain.values())
        artifacts.require_space(self._out, size + 2**20)
        self._shards += 1
        file = f"model-{self._shards:05}-of-{self._total:05}.safetensors"
        save_file(plain, self._out / file, {"format": "pt"})
        self._places |= dict.fromkeys(plain, file)
        self._bytes += size

    def finish(self, pattern: str | None, adapter: str = "none") -> dict:
        """Return the WEIGHTS RECORD of the folder, measured on its files, after writing the rest.

        Args:
            pattern: what the model was pruned to.
            adapter: "merged" where an adapter is part of the weights.
        """
        left = [name for name in self._tensors if name not in self._places]
        self._add({name: self._tensors[name] for name in left})
        index = {"metadata": {"total_size": self._bytes}, "weight_map": self._places}
        artifacts.write_json(self._out / "model.safetensors.index.json", index)
        self._model.config.save_pretrained(self._out)
        if getattr(self._model, "generation_config", None) is not None:
            self._model.generation_config.save_pretrained(self._out)
        if self._tokenizer is not None:
            self._tokenizer.save_pretrained(self._out)
        return measure(self._model, self._out, pattern, adapter, self._extent)


def measure(
    model: nn.Module, folder: Path, pattern: str | None, adapter: str, extent: Extent
) -> dict:
    """Return the WEIGHTS RECORD of a plain folder, measured on its files, a tensor at a time.

    Args:
        model: of the folder's architecture; its weights are not looked at.
    """
    tensors = LazyTensors(folder)
    linears = _Linears(extent.linears(model), tensors, extent.biases)
    total = nonzero = 0
    for name, parameter in model.named_parameters():
        total += parameter.numel()
        nonzero += int(torch.count_nonzero(tensors[name]))
    precision = linears[next(iter(linears))].dtype
    return weights_record.measure(
        tensors,
        linears,
        pattern=pattern,
        precision=str(precision).removeprefix("torch."),
        adapter=adapter,
        parameters=total,
        nonzero=nonzero,
        file_bytes=checkpoint.file_bytes(folder),
        where=str(folder),
        extent=extent,
    )


@dataclass(frozen=True)
class Dense:
    """A model that is to be looked at or pruned, attested, held as the config says.

    Attributes:
        folder: its artifact.
        model, tokenizer: the tokenizer is None where the folder holds none.
        holding: how the model is held.
        record: its WEIGHTS RECORD.
    """

    folder: Path
    model: nn.Module
    tokenizer: Any
    holding: Holding
    record: dict

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
    memory = job.memory
    storage = Storage(memory["activations"], memory["chunk"], job.scratch)
    if memory["model"] == "whole":
        loaded = checkpoint.load(folder, job.device)
        holding = Holding(storage=storage)
        return Dense(folder, loaded.model, loaded.tokenizer, holding, loaded.record)
    source = ByBlock(folder, job.device)
    recorded = artifacts.read_json(folder / artifacts.MANIFEST)["record"]["weights"]
    extent = Extent.of(recorded)
    record = measure(source.model, folder, recorded["pattern"], recorded["adapter"], extent)
    attest.require_same(record, recorded, str(folder))
    return Dense(folder, source.model, source.tokenizer, source.holding(storage), record)
