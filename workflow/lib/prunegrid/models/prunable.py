"""The weights of a model that count as prunable: the linears of its blocks, and additions.

`include` adds linears outside the blocks (OPT-350m's projections), `biases` the biases of the
linears, each as a tensor of its own: older studies pruned them. All later counts are over what was
pruned, so the extent travels with the weights in their record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from prunegrid.models.blocks import is_transposed, oriented, prunable


@dataclass(frozen=True)
class Extent:
    """The prunable weights beside the linears of the blocks, and the size before units went.

    Attributes:
        include: patterns of linears outside the blocks.
        biases: the biases of all prunable linears too.
        prunable_before: prunable weights of the dense model; None where no unit was removed.
        parameters_before: all of its parameters; None with it.
    """

    include: tuple[str, ...] = ()
    biases: bool = False
    prunable_before: int | None = None
    parameters_before: int | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Extent:
        """Return the extent that a WEIGHTS RECORD or the settings of a step describe."""
        return cls(
            tuple(record.get("include") or ()),
            bool(record.get("biases")),
            record.get("prunable_before"),
            record.get("parameters_before"),
        )

    def record(self) -> dict[str, Any]:
        """Return the fields that a WEIGHTS RECORD holds of it."""
        return {**vars(self), "include": list(self.include)}

    def after(self, record: Mapping[str, Any]) -> Extent:
        """Return this extent with the dense sizes of the parent whose WEIGHTS RECORD is given."""
        sizes = ("prunable_before", "parameters_before")
        return replace(self, **{size: record.get(size) for size in sizes})

    def linears(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return full name → module of the prunable linears."""
        return prunable(model, include=self.include)

    def tensors(self, linears: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Return the prunable tensors of linears: weights [d_out, d_in], biases [1, d_out]."""
        tensors = {}
        for name, module in linears.items():
            tensors[name] = oriented(module)
            if self.biases and module.bias is not None:
                tensors[f"{name}.bias"] = module.bias.detach()[None]
        return tensors


BLOCKS_ONLY = Extent()


class LazyLinears(Mapping[str, Tensor]):
    """The weights [d_out, d_in] of linears out of a folder's tensors, each read when asked for.

    With `biases` theirs too, [1, d_out], named as by `Extent.tensors`.
    """

    def __init__(
        self, linears: Mapping[str, nn.Module], tensors: Mapping[str, Tensor], biases: bool = False
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
