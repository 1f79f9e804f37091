"""The tensors of a plain folder, each read from its safetensors file when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from prunegrid.models import checkpoint
from prunegrid.models.blocks import is_transposed


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


class LazyLinears(Mapping[str, Tensor]):
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
