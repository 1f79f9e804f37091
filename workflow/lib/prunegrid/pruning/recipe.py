"""Recipes of pruning: criterion, pattern, allocation, refinement and update."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks, oriented, weights_in_memory
from prunegrid.models.prunable import BLOCKS_ONLY, Extent
from prunegrid.pruning.allocation.counts import exact_zeros, ranked_zeros
from prunegrid.pruning.criteria import method_module, method_settings
from prunegrid.pruning.patterns import NM, Pattern, parse_pattern

# Of a criterion or an update; the more costly ones last.
NEEDS = ("nothing", "input_norms", "input_moments", "hessian")


@dataclass(frozen=True)
class Recipe:
    """One way of pruning a model.

    Attributes:
        method: name of a criterion (`prunegrid.pruning.criteria`).
        pattern: "unstructured" or "N:M".
        sparsity: of the whole model, for "unstructured".
        scope: "row", "layer" or "model"; None is the method's default.
        settings: the method's own, over its defaults.
        refine: name of a refinement of the mask (`prunegrid.pruning.refine`), or None.
        refine_settings: over the refinement's defaults.
        update: name of an update (`prunegrid.pruning.updates`); None is what the method does
            itself.
        update_settings: over the update's defaults.
        allocation: name of an allocation (`prunegrid.pruning.allocation`), for "unstructured".
        allocation_settings: over the allocation's defaults.
        seed: for methods that draw.
        extent: what is pruned beside the linears of the blocks, and which of them are not.
        allow_unprunable: matrices may stay dense unasked (`prunegrid.pruning.coverage`).
    """

    method: str
    pattern: str = "unstructured"
    sparsity: float | None = None
    scope: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    refine: str | None = None
    refine_settings: Mapping[str, Any] = field(default_factory=dict)
    update: str | None = None
    update_settings: Mapping[str, Any] = field(default_factory=dict)
    allocation: str = "uniform"
    allocation_settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    extent: Extent = BLOCKS_ONLY
    allow_unprunable: bool = False

    @property
    def module(self) -> ModuleType:
        """Return the method's module."""
        return method_module(self.method)

    @property
    def refine_module(self) -> ModuleType | None:
        """Return the refinement's module; None where the method's own mask stays."""
        if self.refine is None:
            return None
        return importlib.import_module(f"prunegrid.pruning.refine.{self.refine}")

    @property
    def update_module(self) -> ModuleType | None:
        """Return the update's module; None where the method's own result stays."""
        if self.update is None:
            return None
        return importlib.import_module(f"prunegrid.pruning.updates.{self.update}")

    @property
    def allocation_module(self) -> ModuleType:
        """Return the allocation's module."""
        return importlib.import_module(f"prunegrid.pruning.allocation.{self.allocation}")

    @property
    def needs(self) -> str:
        """Return the most that criterion, refinement and update must know of a linear's inputs."""
        modules = filter(None, (self.module, self.refine_module, self.update_module))
        needs = {module.NEEDS for module in modules}
        if needs >= {"input_moments", "hessian"}:
            return "hessian_and_moments"
        return max(needs, key=NEEDS.index)

    @property
    def adds_biases(self) -> bool:
        """Return whether linears without a bias are to get one, which the method then shifts.

        Raises:
            PrunegridError: they are, and the method's `compensate` is off.
        """
        settings = method_settings(self.method, dict(self.settings))
        if settings.get("add_biases") and not settings.get("compensate", True):
            raise PrunegridError(
                "`add_biases` is true and `compensate` is false: the biases would stay zero",
                expected="added biases that make up for what is pruned",
                remedy="remove `add_biases`, or set `compensate: true`",
            )
        return bool(settings.get("add_biases"))

    @property
    def reads_inputs(self) -> bool:
        """Return whether criterion, update or allocation need what linears are given."""
        return self.needs != "nothing" or self.allocation_module.NEEDS != "nothing"

    @property
    def general_pattern(self) -> Pattern:
        """Return the pattern of the whole model.

        Raises:
            PrunegridError: it is no pattern, or has a scope that the method does not know.
        """
        scope = self.scope or self.module.SCOPE
        known = getattr(self.module, "SCOPES", ("row", "layer"))
        if self.pattern == "unstructured" and scope not in known:
            raise PrunegridError(
                f"method {self.method} has no scope '{scope}'", expected=" or ".join(known)
            )
        # Compared over all linears, single ones get counts and are then ranked by themselves.
        return parse_pattern(self.pattern, self.sparsity, "layer" if scope == "model" else scope)

    def zeros(
        self,
        blocks: Blocks,
        norms: Mapping[str, Tensor] | None,
        weights_of: Callable[[Mapping[str, nn.Module]], Mapping[str, Tensor]] = weights_in_memory,
    ) -> dict[str, int]:
        """Return linear → how many weights it loses; {} for N:M, whose pattern says it.

        Args:
            norms: full linear name → mean x² of the dense model's inputs [d_in], or None.
            weights_of: returns the weights [d_out, d_in] of some linears, by the same names.

        Raises:
            PrunegridError: the allocation needs norms and there are none.
        """
        pattern = self.general_pattern
        if isinstance(pattern, NM):
            return {}
        groups = {block: linears for block, linears in blocks.groups().items() if linears}
        linears = {name: m for group in groups.values() for name, m in group.items()}
        sizes = {name: oriented(module).numel() for name, module in linears.items()}
        if self.scope == "model":
            flat, count = weights_of(linears), pattern.zeros_of(sum(sizes.values()))
            return ranked_zeros(linears, lambda name: self.module.scores(flat[name]), count)
        module = self.allocation_module
        if module.NEEDS != "nothing" and norms is None:
            raise PrunegridError(
                f"allocation {self.allocation} needs calibration samples and there are none",
                remedy="name a calibration in the prune profile",
            )
        settings = {**module.SETTINGS, **self.allocation_settings}
        weights = {block: weights_of(group) for block, group in groups.items()}
        wanted = module.allocate(weights, self.sparsity, norms, **settings)
        return exact_zeros(wanted, sizes, self.sparsity)
