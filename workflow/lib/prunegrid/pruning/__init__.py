"""Pruning: which weights go, and what becomes of the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunegrid.common.errors import PrunegridError
from prunegrid.pruning.criteria import method_module, method_settings

if TYPE_CHECKING:
    import torch

    from prunegrid.pruning.input_stats import InputStats


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

    from prunegrid.pruning.patterns import parse_pattern, require_fit

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
    from prunegrid.pruning.input_stats import Accumulator

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
