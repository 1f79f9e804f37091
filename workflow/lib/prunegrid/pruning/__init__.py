"""Pruning: which weights go, and what becomes of the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prunegrid.common.errors import PrunegridError
from prunegrid.pruning.criteria import method_module, method_settings
from prunegrid.pruning.input_stats import Accumulator, InputStats
from prunegrid.pruning.patterns import parse_pattern, require_fit


@torch.no_grad()
def prune_weight(
    weight: Tensor,
    method: str,
    pattern: str,
    *,
    sparsity: float | None = None,
    scope: str | None = None,
    inputs: Tensor | None = None,
    generator: torch.Generator | None = None,
    **settings: Any,
) -> Tensor:
    """Return the pruned weight, in the same shape and dtype.

    Args:
        weight: [d_out, d_in], float.
        method: name of a method ("magnitude", "wanda", "ria", "sparsegpt", "alps", "admm",
            "random").
        pattern: "unstructured" or "N:M" (N kept of every M consecutive input columns).
        sparsity: fraction of zeros, 0 ≤ sparsity ≤ 1; for "unstructured".
        scope: "row" or "layer"; None is the method's default.
        inputs: calibration inputs [n_tokens, d_in]; for methods that need them.
        generator: for methods that draw; None is one with the seed 0.
        settings: the method's own, such as SparseGPT's `dampening`.

    Raises:
        PrunegridError: wrong shapes, NaN, missing inputs, a pattern that does not fit, or a setting
            that the method does not have.
    """
    module, settings = method_module(method), method_settings(method, settings)
    if weight.dim() != 2 or not weight.is_floating_point():
        raise PrunegridError(
            f"weight is {weight.dtype} {list(weight.shape)}", expected="floats [d_out, d_in]"
        )
    if not torch.isfinite(weight).all():
        raise PrunegridError("weight holds NaN or infinity", expected="finite weights")
    parsed = parse_pattern(pattern, sparsity, scope or module.SCOPE)
    require_fit(parsed, weight.shape[1], "weight")
    if module.DRAWS:
        settings["generator"] = generator or torch.Generator().manual_seed(0)
    stats = _stats(module.NEEDS, method, weight, inputs)
    return module.prune_linear(weight, stats, parsed, **settings)[0]


def _stats(needs: str, method: str, weight: Tensor, inputs: Tensor | None) -> InputStats | None:
    """Return the statistics of raw inputs [n_tokens, d_in], None where the method needs none."""
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
