"""What is to be done to a model (criterion, pattern, allocation, update), and a linear done so."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.attestation import nm_violations
from prunegrid.models.blocks import Blocks, oriented, weights_in_memory
from prunegrid.models.prunable import BLOCKS_ONLY, Extent
from prunegrid.pruning.allocation.counts import exact_zeros, ranked_zeros
from prunegrid.pruning.criteria import method_module, method_settings
from prunegrid.pruning.input_stats import InputStats, is_finite
from prunegrid.pruning.patterns import (
    NM,
    Pattern,
    Unstructured,
    count_zeros,
    parse_pattern,
    zeros_asked,
    zeros_expected,
)

NEEDS = ("nothing", "input_norms", "hessian")


@dataclass(frozen=True)
class Recipe:
    """One way of pruning a model.

    Attributes:
        method: name of a criterion (`prunegrid.pruning`).
        pattern: "unstructured" or "N:M".
        sparsity: of the whole model, for "unstructured".
        scope: "row", "layer" or "model"; None is the method's default.
        settings: the method's own, over its defaults.
        update: name of an update (`prunegrid.pruning.updates`); None is what the method does
            itself.
        update_settings: over the update's defaults.
        allocation: name of an allocation (`prunegrid.pruning.allocation`), for "unstructured".
        allocation_settings: over the allocation's defaults.
        seed: for methods that draw.
        extent: what is pruned beside the linears of the blocks.
    """

    method: str
    pattern: str = "unstructured"
    sparsity: float | None = None
    scope: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    update: str | None = None
    update_settings: Mapping[str, Any] = field(default_factory=dict)
    allocation: str = "uniform"
    allocation_settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    extent: Extent = BLOCKS_ONLY

    @property
    def module(self) -> ModuleType:
        """The method's module."""
        return method_module(self.method)

    @property
    def update_module(self) -> ModuleType | None:
        """The update's module; None where the method's own result stays."""
        return (
            importlib.import_module(f"prunegrid.pruning.updates.{self.update}")
            if self.update
            else None
        )

    @property
    def allocation_module(self) -> ModuleType:
        """The allocation's module."""
        return importlib.import_module(f"prunegrid.pruning.allocation.{self.allocation}")

    @property
    def needs(self) -> str:
        """What must be known of a linear's inputs: the most that criterion or update ask for."""
        wanted = [self.module.NEEDS, self.update_module.NEEDS if self.update else "nothing"]
        return max(wanted, key=NEEDS.index)

    @property
    def general_pattern(self) -> Pattern:
        """The pattern as asked of the whole model.

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
        """Return linear → how many weights it loses; {} for N:M, which says so itself.

        Args:
            norms: full linear name → mean x² of the dense model's inputs [d_in], or None.
            weights_of: some linears → their weights [d_out, d_in] by the same names.

        Raises:
            PrunegridError: the allocation needs norms and there are none.
        """
        pattern = self.general_pattern
        if isinstance(pattern, NM):
            return {}
        groups = blocks.groups()
        every = {name: m for linears in groups.values() for name, m in linears.items()}
        sizes = {name: module.weight.numel() for name, module in every.items()}
        if self.scope == "model":
            flat, count = weights_of(every), pattern.zeros_of(sum(sizes.values()))
            return ranked_zeros(every, lambda name: self.module.scores(flat[name]), count)
        module = self.allocation_module
        if module.NEEDS != "nothing" and norms is None:
            raise PrunegridError(
                f"allocation {self.allocation} needs calibration samples and there are none",
                remedy="name a calibration in the prune profile",
            )
        settings = {**module.SETTINGS, **self.allocation_settings}
        weights = {block: weights_of(linears) for block, linears in groups.items()}
        wanted = module.allocate(weights, self.sparsity, norms, **settings)
        return exact_zeros(wanted, sizes, self.sparsity)


class Pruner:
    """Prunes single linears by one recipe and keeps the report.

    Attributes:
        report: full linear name → {zeros, shape, sparsity, revived (weights that were zero and are
            not any more, where something updates), and the facts of method and update}.

    Args:
        recipe: what is to be done.
        zeros: linear → how many weights it loses, as `Recipe.zeros` says.
    """

    def __init__(self, recipe: Recipe, zeros: Mapping[str, int]) -> None:
        self.recipe, self.zeros = recipe, zeros
        self.pattern = recipe.general_pattern
        self.module, self.update = recipe.module, recipe.update_module
        self.settings = method_settings(recipe.method, dict(recipe.settings))
        self.report: dict[str, dict[str, Any]] = {}

    def __call__(self, name: str, module: nn.Module, stats: InputStats | None) -> None:
        """Prune one linear in place and check its counts (see `pruned`)."""
        oriented(module).copy_(self.pruned(name, module, stats))
        if self.recipe.extent.biases and module.bias is not None:
            module.bias.detach().copy_(self._pruned_bias(f"{name}.bias", module.bias.detach()))

    def pruned(self, name: str, module: nn.Module, stats: InputStats | None) -> Tensor:
        """Return one linear's pruned weight [d_out, d_in], its counts checked and reported.

        Raises:
            PrunegridError: the result does not have the pattern.
        """
        weight = oriented(module)
        pattern = self._pattern_of(name, weight)
        found, facts = self.module.prune_linear(
            weight, stats, pattern, generator=self._generator(name), **self.settings
        )
        if self.update is not None:
            settings = {**self.update.SETTINGS, **self.recipe.update_settings}
            kept = found != 0
            found, more = self.update.update_linear(weight, kept, stats, **settings)
            facts = {**facts, **more}
        self._checked(name, weight, found, pattern, facts)
        return found

    def _pruned_bias(self, name: str, bias: Tensor) -> Tensor:
        """Return a bias [d_out] pruned as a row of its own, checked and reported."""
        row, pattern = bias[None], self.pattern
        generator = self._generator(name)
        found, facts = self.module.prune_linear(
            row, None, pattern, generator=generator, **self.settings
        )
        self._checked(name, row, found, pattern, facts)
        return found[0]

    def _checked(
        self, name: str, before: Tensor, found: Tensor, pattern: Pattern, facts: Mapping[str, Any]
    ) -> None:
        """Check and report what became of a weight."""
        zeros = count_zeros(found)
        if self.module.UPDATES or self.update is not None:
            facts = {**facts, "revived": int(((before == 0) & (found != 0)).sum())}
        self._require_counts(name, before, found, pattern, facts)
        self.report[name] = {
            "shape": list(found.shape),
            "zeros": zeros,
            "sparsity": zeros / found.numel(),
            **facts,
        }

    def _pattern_of(self, name: str, weight: Tensor) -> Pattern:
        if isinstance(self.pattern, NM):
            return self.pattern
        exact = Fraction(self.zeros[name], weight.numel())
        return Unstructured(exact, self.pattern.scope)

    def _generator(self, name: str) -> torch.Generator | None:
        if not self.module.DRAWS:
            return None
        # A seed of its own by name: the order of the linears plays no part.
        digest = hashlib.sha256(f"{self.recipe.seed} {name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def _require_counts(
        self, name: str, before: Tensor, after: Tensor, pattern: Pattern, facts: Mapping[str, Any]
    ) -> None:
        """Check the zeros of a pruned weight: exact, or for updates no fewer than asked."""
        fault, zeros = "", count_zeros(after)
        if not is_finite(after):
            fault = "the pruned weight holds NaN or infinity"
        elif isinstance(pattern, NM) and nm_violations(after, pattern.keep, pattern.group):
            fault = f"groups hold more than {pattern.keep} of {pattern.group} weights"
        elif self.module.UPDATES or self.update is not None:
            # Beyond the count only weights that were zero, or whose input is, may be zero.
            asked = zeros_asked(pattern, *after.shape)
            spare = count_zeros(before) + facts.get("dead_inputs", 0) * len(after)
            if not asked <= zeros <= asked + spare:
                fault = f"{zeros} zeros where {asked} were asked for"
        elif zeros != zeros_expected(pattern, before):
            fault = f"{zeros} zeros where {zeros_expected(pattern, before)} were expected"
        if fault:
            raise PrunegridError(
                fault, where=name, remedy="the method's result is wrong: please report it"
            )
