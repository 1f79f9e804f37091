"""Linears pruned one by one, by a recipe: criterion, refinement of its mask, update."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.attestation import nm_violations
from prunegrid.models.blocks import oriented
from prunegrid.models.experts import ExpertLinear
from prunegrid.pruning.criteria import generator_of, method_settings
from prunegrid.pruning.input_stats import InputStats, is_finite
from prunegrid.pruning.output_errors import output_error
from prunegrid.pruning.patterns import (
    NM,
    Pattern,
    Unstructured,
    apply_mask,
    count_zeros,
    zeros_asked,
    zeros_expected,
)
from prunegrid.pruning.recipe import Recipe

log = logging.getLogger(__name__)

UNREACHED = "no calibration token reached it: all its inputs count alike"
# Returns a linear's weight as another step pruned it by the same criterion, and the facts of that.
Chosen = Callable[[str], tuple[Tensor, dict[str, Any]]]


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
            new, said = apply_mask(weight, kept), {"fallbacks": more.pop("fallbacks", [])}
            facts = _joined(facts, {"refined": more, **said})
        if self._update is not None:
            settings = {**self._update.SETTINGS, **self.recipe.update_settings}
            new, more = self._update.update_linear(weight, new != 0, stats, **settings)
            facts = _joined(facts, more)
        shifted = self._bias_shift(module, new, stats) is not None
        error = None if stats is None else output_error(weight, new, stats, shifted=shifted)
        if error is not None:
            facts = {**facts, "output_error": error}
        if stats is not None and stats.tokens == 0:
            facts = _joined({"fallbacks": [UNREACHED]}, facts)
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


def _joined(facts: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of two stages of a linear; the fallbacks of both, each once."""
    fallbacks = dict.fromkeys([*facts.get("fallbacks", ()), *more.get("fallbacks", ())])
    return {**facts, **more, **({"fallbacks": [*fallbacks]} if fallbacks else {})}
