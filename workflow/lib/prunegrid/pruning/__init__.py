"""Pruning: one linear by any method, and the lookup of methods.

A method is one module of this package, found by its name, so that adding one edits no other file:

    NEEDS     "nothing" | "input_norms" | "hessian": what it must know of a linear's input
    SETTINGS  its own config settings with their defaults
    SCOPE     "row" | "layer": what an unstructured pattern compares by default
    SCOPES    the scopes that it knows, ("row", "layer") where it says nothing; with "model" it has
              scores(weight) -> float32 [d_out, d_in] that compare over linears
    DRAWS     True where it draws random numbers
    UPDATES   True where it changes the weights that stay
    prune_linear(weight, stats, pattern, *, generator=None, **settings) -> (weight, facts)

All but the function are literals, so they can be read without importing torch. `weight` is
[d_out, d_in]; `stats` an InputStats or None; the result has the weight's shape and dtype; `facts`
is what is recorded of the linear beside its counts (JSON-able).
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from prunegrid.errors import PrunegridError, nearest

if TYPE_CHECKING:
    import torch

    from prunegrid.input_stats import InputStats


def method_module(name: str) -> ModuleType:
    """Return the module of a pruning method.

    Raises:
        PrunegridError: there is none of that name.
    """
    files = Path(__file__).parent.glob("[a-z]*.py")
    known = {f.stem for f in files if re.search(r"^NEEDS\b", f.read_text("utf-8"), re.MULTILINE)}
    if name not in known:
        raise PrunegridError(f"there is no pruning method '{name}'", remedy=nearest(name, known))
    return importlib.import_module(f"prunegrid.pruning.{name}")


def method_settings(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return a method's settings: its defaults, overlaid with those that are given.

    Raises:
        PrunegridError: a setting that the method does not have.
    """
    defaults = method_module(name).SETTINGS
    for key in given:
        if key not in defaults:
            raise PrunegridError(
                f"method {name} has no setting '{key}'", remedy=nearest(key, defaults)
            )
    return {**defaults, **given}


def prune_weight(
    weight: torch.Tensor,
    method: str,
    pattern: str,
    *,
    sparsity: float | None = None,
    scope: str | None = None,
    inputs: torch.Tensor | None = None,
    dampening: float = 0.01,
    blocksize: int = 128,
    mask_blocksize: int | None = None,
    generator: torch.Generator | None = None,
    **settings: Any,
) -> torch.Tensor:
    """Return the pruned weight, in the same shape and dtype.

    Args:
        weight: [d_out, d_in], float.
        method: name of a method ("magnitude", "wanda", "ria", "sparsegpt", "random").
        pattern: "unstructured" or "N:M" (N kept of every M consecutive input columns).
        sparsity: fraction of zeros, 0 ≤ sparsity ≤ 1; for "unstructured".
        scope: "row" or "layer"; None is the method's default.
        inputs: calibration inputs [n_tokens, d_in]; for methods that need them.
        dampening: SparseGPT's, as a fraction of the Hessian's mean diagonal.
        blocksize: SparseGPT's update block, in input columns.
        mask_blocksize: SparseGPT's mask-selection block; None is the update block.
        generator: for methods that draw.
        settings: further settings of the method.

    Raises:
        PrunegridError: wrong shapes, NaN, missing inputs, or a pattern that does not fit.
    """
    import torch

    from prunegrid.patterns import parse_pattern, require_fit

    module = method_module(method)
    if weight.dim() != 2 or not weight.is_floating_point():
        raise PrunegridError(
            f"weight is {weight.dtype} {list(weight.shape)}", expected="floats [d_out, d_in]"
        )
    if not torch.isfinite(weight).all():
        raise PrunegridError("weight holds NaN or infinity", expected="finite weights")
    wanted = parse_pattern(pattern, sparsity, scope or module.SCOPE)
    require_fit(wanted, weight.shape[1], "weight")
    stats = _stats(module.NEEDS, method, weight, inputs)
    common = {"dampening": dampening, "blocksize": blocksize, "mask_blocksize": mask_blocksize}
    own = {key: value for key, value in common.items() if key in module.SETTINGS}
    own = method_settings(method, {**own, **settings})
    with torch.no_grad():
        return module.prune_linear(weight, stats, wanted, generator=generator, **own)[0]


def _stats(
    needs: str, method: str, weight: torch.Tensor, inputs: torch.Tensor | None
) -> InputStats | None:
    """Return the statistics of raw inputs [n_tokens, d_in], None where the method needs none."""
    from prunegrid.input_stats import Accumulator

    if needs == "nothing":
        return None
    if inputs is None or inputs.dim() != 2 or inputs.shape[1] != weight.shape[1]:
        raise PrunegridError(
            f"inputs is {None if inputs is None else list(inputs.shape)}",
            expected=f"[n_tokens, {weight.shape[1]}] for method {method}",
        )
    sums = Accumulator(needs, weight.shape[1], weight.device)
    sums.add(inputs, "inputs")
    return sums.finish()
