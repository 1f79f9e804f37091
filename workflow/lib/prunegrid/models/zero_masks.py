"""The zeros of pruning, and the check that a step keeps them, weight by weight.

A mask says which weights of a pruned model are not zero. A step promises to keep `all` zeros (of
base and adapter summed), those of the `base` alone (a plain adapter beside it fills them), or
`none` (`preserve_zeros: false`, a control). The promise is checked on the weights that are read
back from the step's files. The number of zeros that it filled is recorded in each case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from prunegrid.common.errors import AttestationError
from prunegrid.models.prunable import BLOCKS_ONLY, Extent

if TYPE_CHECKING:
    from prunegrid.models.checkpoint import Checkpoint


def keep_masks(
    model: nn.Module, pattern: str | None, extent: Extent = BLOCKS_ONLY
) -> dict[str, Tensor]:
    """Return the mask (True = kept) of each prunable weight, bool [d_out, d_in]; {} for dense.

    A dense model's few zeros may be trained: only pruned weights are kept at zero.
    """
    if pattern is None:
        return {}
    with torch.no_grad():
        return {n: weight != 0 for n, weight in extent.tensors(extent.linears(model)).items()}


def promised(settings: Mapping[str, Any]) -> str:
    """Return which zeros a step's settings promise to keep: "all", "base" or "none"."""
    if settings.get("preserve_zeros") is False:
        return "none"
    return "base" if settings.get("adapter") == "unmasked" else "all"


def count_filled(
    masks: Mapping[str, Tensor], weights: Iterable[tuple[str, Tensor, Tensor]]
) -> tuple[int, int]:
    """Return how many pruned weights are not zero: (in the base, in base and adapter summed).

    Args:
        masks: bool [d_out, d_in] by linear, True = kept.
        weights: (name, base weight, base and adapter summed) of every prunable linear; others,
            which were left dense, have no pruned places.

    Raises:
        AttestationError: a linear is missing, or of another shape.
    """
    base = both = 0
    seen = set()
    for name, weight, total in weights:
        if name not in masks:
            continue
        seen.add(name)
        if masks[name].shape != weight.shape:
            raise AttestationError(f"the linear {name} is not of the shape that was pruned")
        pruned = ~masks[name].to(weight.device)
        base += int(torch.count_nonzero(weight[pruned]))
        both += int(torch.count_nonzero(total[pruned]))
    if seen != set(masks):
        raise AttestationError(f"pruned linears are gone: {sorted(set(masks) - seen)[:3]}")
    return base, both


def require_kept(
    masks: Mapping[str, Tensor], saved: Checkpoint, settings: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Return {zeros_promised, zeros_filled, zeros_filled_base}; all None if nothing was pruned.

    Args:
        masks: of the parent, True = kept; {} of a dense one.
        saved: the checkpoint that the step wrote, read back.
        settings: of the step.

    Raises:
        AttestationError: the step filled zeros that it promised to keep.
    """
    if not masks:
        return dict.fromkeys(("zeros_promised", "zeros_filled", "zeros_filled_base"))
    promise = promised(settings)
    base, both = count_filled(masks, saved.weights())
    broken = {"all": max(base, both), "base": base, "none": 0}[promise]
    if broken:
        total = sum(int((~mask).sum()) for mask in masks.values())
        raise AttestationError(
            f"the step filled {broken} of {total} pruned places",
            where=where,
            expected="none of them, as its settings promise",
            remedy="its masks were not kept: please report it",
        )
    return {"zeros_promised": promise, "zeros_filled": both, "zeros_filled_base": base}
