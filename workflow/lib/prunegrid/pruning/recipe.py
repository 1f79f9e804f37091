"""Recipes of pruning (criterion, pattern, allocation, refinement, update), and linears by one."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.attestation import nm_violations
from prunegrid.models.blocks import Blocks, oriented, weights_in_memory
from prunegrid.models.experts import ExpertLinear
from prunegrid.models.prunable import BLOCKS_ONLY, Extent
from prunegrid.pruning.allocation.counts import exact_zeros, ranked_zeros
from prunegrid.pruning.criteria import generator_of, method_module, method_settings
from prunegrid.pruning.input_stats import InputStats, is_finite
from prunegrid.pruning.output_errors import output_error
from prunegrid.pruning.patterns import (
    NM,
    Pattern,
    Unstructured,
    apply_mask,
    count_zeros,
    parse_pattern,
    zeros_asked,
    zeros_expected,
)

log = logging.getLogger(__name__)

UNREACHED = "no calibration token reached it: all its inputs count alike"
# Of a criterion or an update; the more costly ones last.
NEEDS = ("nothing", "input_norms", "input_moments", "hessian")
# Returns a linear's weight as another step pruned it by the same criterion, and the facts of that.
Chosen = Callable[[str], tuple[Tensor, dict[str, Any]]]


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


class Pruner:
    """Prunes single linears by one recipe.

    Args:
        zeros: of `Recipe.zeros`.
        chosen: what another step has pruned by the recipe's criterion; None runs the criterion.

    Attributes:
        report: full linear name → {zeros, shape, sparsity, revived (weights that were zero and are
            not any more, where something updates), and the facts of method and update}.
        biases: full name of a bias that was shifted → its new values, [1, d_out].
    """

    def __init__(
        self, recipe: Recipe, zeros: Mapping[str, int], chosen: Chosen | None = None
    ) -> None:
        self.recipe, self._zeros, self._pattern = recipe, zeros, recipe.general_pattern
        self._module, self._update = recipe.module, recipe.update_module
        self._refine, self._chosen = recipe.refine_module, chosen
        if self._refine is not None and self._update is None and self._module.UPDATES:
            raise PrunegridError(
                f"method {recipe.method} updates its weights for its own mask, not a refined one",
                remedy="name an update beside `refine`; none leaves the weights as they were",
            )
        self._settings = method_settings(recipe.method, dict(recipe.settings))
        self._updates = self._module.UPDATES or self._update is not None
        self.report: dict[str, dict[str, Any]] = {}
        self.biases: dict[str, Tensor] = {}

    def prune_all(
        self, linears: Mapping[str, nn.Module], stats: Mapping[str, InputStats] | None
    ) -> None:
        """Prune some linears in place; `stats` is None for a recipe that needs no inputs.

        A linear without statistics (an expert that no token reaches once others are pruned) is
        pruned as if all its inputs were alike, and the report says so.
        """
        for name, module in linears.items():
            inputs = None if stats is None else stats.get(name)
            if stats is not None and inputs is None:
                inputs = InputStats.unit(module, self.recipe.needs)
                log.warning("%s: %s", name, UNREACHED)
            self(name, module, inputs)

    def __call__(self, name: str, module: nn.Module, stats: InputStats | None) -> None:
        """Prune one linear in place and check its counts (see `pruned`)."""
        new = self.pruned(name, module, stats)
        shift = self._bias_shift(module, new, stats)
        if shift is not None:
            before, bias = module.bias.detach().clone(), module.bias.detach()
            bias += shift.to(bias)
            self.report[name]["biases_changed"] = int((bias != before).sum())
            self.biases[f"{name}.bias"] = bias[None]
        oriented(module).copy_(new)
        if self.recipe.extent.biases and module.bias is not None:
            # A row of its own.
            bias = module.bias.detach()
            row, facts = self._by_method(f"{name}.bias", bias[None], None, self._pattern)
            self._check_and_report(f"{name}.bias", bias[None], row, self._pattern, facts)
            bias.copy_(row[0])

    def tensors(self, linears: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Return the new tensors of linears: weights [d_out, d_in], biases [1, d_out]."""
        biases = {f"{name}.bias" for name in linears} & self.biases.keys()
        shifted = {name: self.biases.pop(name) for name in biases}
        return self.recipe.extent.tensors(linears) | shifted

    def pruned(self, name: str, module: nn.Module, stats: InputStats | None) -> Tensor:
        """Return one linear's pruned weight [d_out, d_in], its counts checked and reported.

        Raises:
            PrunegridError: the result does not have the pattern.
        """
        weight, pattern = oriented(module), self._pattern
        if isinstance(pattern, Unstructured):
            exact = Fraction(self._zeros[name], weight.numel())
            pattern = Unstructured(exact, pattern.scope)
        if self._chosen is None:
            new, facts = self._by_method(name, weight, stats, pattern)
        else:
            new, facts = self._chosen(name)
            new = new.to(weight.device)
        if self._refine is not None and "refined" not in facts:
            settings = {**self._refine.SETTINGS, **self.recipe.refine_settings}
            kept, more = self._refine.refine_mask(weight, new != 0, stats, pattern, **settings)
            new, facts = apply_mask(weight, kept), {**facts, "refined": more}
        if self._update is not None:
            settings = {**self._update.SETTINGS, **self.recipe.update_settings}
            new, more = self._update.update_linear(weight, new != 0, stats, **settings)
            facts = {**facts, **more}
        shifted = self._bias_shift(module, new, stats) is not None
        error = None if stats is None else output_error(weight, new, stats, shifted=shifted)
        if error is not None:
            facts = {**facts, "output_error": error}
        fallbacks = facts.get("fallbacks", ())
        if stats is not None and stats.tokens == 0 and UNREACHED not in fallbacks:
            facts = {**facts, "fallbacks": [UNREACHED, *fallbacks]}
        if stats is not None and isinstance(module, ExpertLinear):
            facts = {**facts, "tokens": stats.tokens}
        self._check_and_report(name, weight, new, pattern, facts)
        return new

    def _by_method(
        self, name: str, weight: Tensor, stats: InputStats | None, pattern: Pattern
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return what the method makes of a weight, and its facts."""
        drawing = {"generator": generator_of(self.recipe.seed, name)} if self._module.DRAWS else {}
        return self._module.prune_linear(weight, stats, pattern, **drawing, **self._settings)

    def _bias_shift(
        self, module: nn.Module | ExpertLinear, new: Tensor, stats: InputStats | None
    ) -> Tensor | None:
        """Return what a linear's bias gains, [d_out]; None if it has none, or nothing is gained."""
        shift = getattr(self._module, "bias_shift", None)
        if shift is None or module.bias is None:
            return None
        return shift(oriented(module).float() - new.float(), stats, **self._settings)

    def _check_and_report(
        self, name: str, before: Tensor, after: Tensor, pattern: Pattern, facts: Mapping[str, Any]
    ) -> None:
        """Check a pruned weight's zeros (exact; for updates no fewer than asked), report it."""
        fault, zeros = "", count_zeros(after)
        if not is_finite(after):
            fault = "the pruned weight holds NaN or infinity"
        elif isinstance(pattern, NM) and nm_violations(after, pattern.keep, pattern.group):
            fault = f"groups hold more than {pattern.keep} of {pattern.group} weights"
        elif self._updates:
            # Beyond the count only weights that were zero, or whose input is, may be zero.
            asked = zeros_asked(pattern, *after.shape)
            spare = count_zeros(before) + facts.get("dead_beyond", 0)
            if not asked <= zeros <= asked + spare:
                fault = f"{zeros} zeros where {asked} were asked for"
        elif zeros != zeros_expected(pattern, before):
            fault = f"{zeros} zeros where {zeros_expected(pattern, before)} were expected"
        if fault:
            raise PrunegridError(
                fault, where=name, remedy="the method's result is wrong: please report it"
            )
        revived = {"revived": int(((before == 0) & (after != 0)).sum())} if self._updates else {}
        self.report[name] = {
            "shape": list(after.shape),
            "zeros": zeros,
            "sparsity": zeros / after.numel(),
            **facts,
            **revived,
        }
