"""The weights of a model that count as prunable: the linears of its blocks, more, or fewer.

`include` adds linears outside the blocks (OPT-350m's projections), `biases` the biases of the
linears, each as a tensor of its own: older studies pruned them. `exclude` leaves linears dense, and
so does a method that needs inputs with those that the model never calls. All later counts are over
what was pruned, so the extent travels with the weights in their record.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from prunegrid.models.attestation import SHARES
from prunegrid.models.blocks import Blocks, find_blocks, is_transposed, oriented, prunable
from prunegrid.models.experts import ExpertLinear, stored_name

_SIZES = ("prunable_before", "parameters_before", "experts_before")


@dataclass(frozen=True)
class Extent:
    """What is prunable beside or among the linears of the blocks, and the size before units went.

    Attributes:
        include: patterns of linears outside the blocks.
        exclude: patterns of linears, and of other matrices of blocks, that are left dense.
        uncalled: full names of linears that are left dense as the model never calls them.
        biases: the biases of all prunable linears too.
        prunable_before: prunable weights of the dense model; None where no unit was removed.
        parameters_before: all of its parameters; None with it.
        experts_before: experts of a block of the dense model; None where none was removed.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    uncalled: tuple[str, ...] = ()
    biases: bool = False
    prunable_before: int | None = None
    parameters_before: int | None = None
    experts_before: int | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Extent:
        """Return the extent that a WEIGHTS RECORD or the settings of a step describe."""
        names = (tuple(record.get(key) or ()) for key in ("include", "exclude", "uncalled"))
        sizes = (record.get(key) for key in _SIZES)
        return cls(*names, bool(record.get("biases")), *sizes)

    def record(self) -> dict[str, Any]:
        """Return the fields of it in a WEIGHTS RECORD; what stays dense only if any does."""
        fields = {**vars(self), "include": list(self.include)}
        for key in ("exclude", "uncalled"):
            fields[key] = list(fields[key])
            if not fields[key]:
                del fields[key]
        if self.experts_before is None:
            del fields["experts_before"]
        return fields

    def after(self, record: Mapping[str, Any]) -> Extent:
        """Return this extent with the dense sizes of the parent whose WEIGHTS RECORD is given."""
        return replace(self, **{size: record.get(size) for size in _SIZES})

    def blocks(self, model: nn.Module) -> Blocks:
        """Return the blocks of a model, their linears those that are prunable."""
        exclude = (*self.exclude, *map(glob.escape, self.uncalled))
        return find_blocks(model, include=self.include, exclude=exclude)

    def linears(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return full name → module of the prunable linears."""
        return {n: m for group in self.blocks(model).groups().values() for n, m in group.items()}

    def all_linears(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return full name → module of the prunable linears, then those that were left dense."""
        return {**self.linears(model), **prunable(model, include=self.include)}

    def shares(self, model: nn.Module) -> dict[str, float]:
        """Return the shares of the blocks' matrix weights that are prunable or not, and why.

        Packed linears count as what they stand for.

        Returns:
            prunable_share, excluded_share (by choice), router_share and uncalled_share, as
            fractions; what is missing to 1 are matrices that no linear holds.
        """
        blocks = self.blocks(model)
        counts = dict.fromkeys(SHARES, 0)
        counts["prunable_share"] = sum(map(_size, blocks.all_linears().values()))
        counts["router_share"] = sum(weight.numel() for weight in blocks.routers.values())
        every = prunable(model)
        for name, weight in blocks.excluded.items():
            kind = "uncalled_share" if name in self.uncalled else "excluded_share"
            counts[kind] += _size(every[name]) if name in every else weight.numel()
        total = sum(counts.values()) + sum(weight.numel() for weight in blocks.others.values())
        return {kind: count / total for kind, count in counts.items()}

    def tensors(self, linears: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Return the prunable tensors of linears: weights [d_out, d_in], biases [1, d_out]."""
        tensors = {}
        for name, module in linears.items():
            tensors[name] = oriented(module)
            if self.biases and module.bias is not None:
                tensors[f"{name}.bias"] = module.bias.detach()[None]
        return tensors


BLOCKS_ONLY = Extent()


def _size(linear: nn.Module) -> int:
    """Return how many weights a linear has, which a packed one holds in fewer places."""
    if isinstance(linear, nn.Linear):
        return linear.in_features * linear.out_features
    return linear.weight.numel()


class LazyLinears(Mapping[str, Tensor]):
    """The weights [d_out, d_in] of linears out of a folder's tensors, each read when asked for.

    With `biases` theirs too, [1, d_out], named as by `Extent.tensors`.
    """

    def __init__(
        self, linears: Mapping[str, nn.Module], tensors: Mapping[str, Tensor], biases: bool = False
    ) -> None:
        self._linears, self._tensors = linears, tensors
        self._biases = [f"{n}.bias" for n in linears if f"{n}.bias" in tensors] if biases else []
        self._fused: tuple[str, Tensor] | None = None

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._linears:
            return self._tensors[name][None]
        linear = self._linears[name]
        stored = stored_name(name, linear)
        if not isinstance(linear, ExpertLinear):
            weight = self._tensors[stored]
        else:
            # The experts of a tensor come one after another: it is read once for all of them.
            if self._fused is None or self._fused[0] != stored:
                self._fused = (stored, self._tensors[stored])
            weight = self._fused[1][linear.index]
        return weight.t() if is_transposed(linear) else weight

    def __iter__(self) -> Iterator[str]:
        return iter([*self._linears, *self._biases])

    def __len__(self) -> int:
        return len(self._linears) + len(self._biases)
