"""Plain folders that are written a block at a time and measured a tensor at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.models import checkpoint, weights_record
from prunegrid.models.blocks import find_blocks, is_transposed
from prunegrid.models.experts import ExpertLinear, linear_named, stored_name
from prunegrid.models.prunable import BLOCKS_ONLY, Extent, LazyLinears


class ShardWriter:
    """Writes a plain folder that differs from another in its linears, a block at a time.

    Args:
        source: the folder of all other tensors.
        model: of its architecture; its weights are not read.
        tokenizer: None saves none.
        out: an existing folder.
        extent: which weights are prunable.
    """

    def __init__(
        self,
        source: Path,
        model: nn.Module,
        tokenizer: Any,
        out: Path,
        extent: Extent = BLOCKS_ONLY,
    ) -> None:
        self._tensors = checkpoint.stored_tensors(source)
        self._model, self._tokenizer = model, tokenizer
        self._out, self._extent = out, extent
        blocks = find_blocks(model, include=extent.include)
        # One shard for each block, one for the pruned linears outside, one for the rest.
        self._total = len(blocks.names) + bool(blocks.outside) + 1
        self._places: dict[str, str] = {}
        self._shards = self._bytes = 0

    def add_block(self, block: str, linears: Mapping[str, Tensor]) -> None:
        """Write a block's shard.

        Args:
            block: its name, or OUTSIDE.
            linears: the new weights [d_out, d_in] by full linear name, and biases [1, d_out]; other
                tensors of the block are copied.
        """
        tensors = {n: self._tensors[n] for n in self._tensors if n.startswith(f"{block}.")}
        copied: set[str] = set()
        for name, weight in linears.items():
            if name.endswith(".bias"):
                tensors[name] = weight[0]
                continue
            linear = linear_named(self._model, name)
            stored = stored_name(name, linear)
            laid = weight.t() if is_transposed(linear) else weight
            if isinstance(linear, ExpertLinear):
                if stored not in copied:  # what was read may lie in the file's own memory
                    tensors[stored] = tensors[stored].clone()
                    copied.add(stored)
                tensors[stored][linear.index] = laid.to("cpu", tensors[stored].dtype)
            else:
                tensors[stored] = laid
        for name in tensors:  # pruning may compute in a wider dtype than the source is stored in
            tensors[name] = tensors[name].to(self._tensors[name].dtype)
        self._add(tensors)

    def _add(self, tensors: Mapping[str, Tensor]) -> None:
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        size = sum(value.nbytes for value in plain.values())
        artifact_folder.require_space(self._out, size + 2**20)
        self._shards += 1
        file = f"model-{self._shards:05}-of-{self._total:05}.safetensors"
        save_file(plain, self._out / file, {"format": "pt"})
        self._places |= dict.fromkeys(plain, file)
        self._bytes += size

    def finish(self, pattern: str | None) -> dict:
        """Write the rest of the folder; return its WEIGHTS RECORD, measured on its files."""
        left = [name for name in self._tensors if name not in self._places]
        self._add({name: self._tensors[name] for name in left})
        index = {"metadata": {"total_size": self._bytes}, "weight_map": self._places}
        file_io.write_json(self._out / "model.safetensors.index.json", index)
        self._model.config.save_pretrained(self._out)
        if getattr(self._model, "generation_config", None) is not None:
            self._model.generation_config.save_pretrained(self._out)
        if self._tokenizer is not None:
            self._tokenizer.save_pretrained(self._out)
        return measure(self._model, self._out, pattern, "none", self._extent)


def measure(
    model: nn.Module, folder: Path, pattern: str | None, adapter: str, extent: Extent
) -> dict:
    """Return the WEIGHTS RECORD of a plain folder, measured on its files, a tensor at a time.

    Args:
        model: of the folder's architecture; its weights are not read.
    """
    tensors = checkpoint.stored_tensors(folder)
    linears = LazyLinears(extent.linears(model), tensors, extent.biases)
    size = checkpoint.file_bytes(folder)
    return weights_record.measure_plain(
        model, tensors, pattern, adapter, size, str(folder), extent, linears
    )
