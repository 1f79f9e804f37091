"""What of a model counts as prunable: the linears of its blocks, and what a profile adds to them.

`include` names linears outside the blocks (OPT-350m's projections), `biases` adds the biases of the
linears, each a tensor of its own: both for settings of older studies. What was pruned is what is
counted from then on, so the extent travels with the weights in their record. Where units were
removed, how many weights the dense model had travels with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from prunegrid.models.blocks import oriented, prunable


@dataclass(frozen=True)
class Extent:
    """What is prunable beside the linears of the blocks.

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
        """Return what a WEIGHTS RECORD (or settings) says."""
        return cls(
            tuple(record.get("include") or ()),
            bool(record.get("biases")),
            record.get("prunable_before"),
            record.get("parameters_before"),
        )

    def record(self) -> dict[str, Any]:
        """Return it in plain builtins."""
        return {**vars(self), "include": list(self.include)}

    def after(self, record: Mapping[str, Any]) -> Extent:
        """Return it for weights made of those with this WEIGHTS RECORD: what they lost is kept."""
        parent = Extent.of(record)
        return replace(
            self,
            prunable_before=parent.prunable_before,
            parameters_before=parent.parameters_before,
        )

    def linears(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return full name → module of the prunable linears."""
        return prunable(model, include=self.include)

    def tensors(self, linears: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Return the prunable tensors of linears: weights [d_out, d_in], biases [1, d_out]."""
        found = {}
        for name, module in linears.items():
            found[name] = oriented(module)
            if self.biases and module.bias is not None:
                found[f"{name}.bias"] = module.bias.detach()[None]
        return found


BLOCKS_ONLY = Extent()
