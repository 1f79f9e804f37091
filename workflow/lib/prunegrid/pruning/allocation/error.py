"""Allocation by error: weights go where their loss is the smallest part of a linear's output.

With uncorrelated inputs, pruning w_ij adds w_ij² · E[x_j²] to the squared error of its linear's
output; as a share of Σ w_ij² · E[x_j²] the errors of all linears can be compared. The counts that
minimise the sum of these relative errors, for a given total, cut all linears at one value of that
share (each linear's error is convex in its count, so equal slopes are optimal). No linear's
sparsity leaves the target by more than `shift`.

Source: this project's; the share is optimal brain damage's saliency (LeCun et al., NeurIPS 1989)
of a linear's own output. Deviation from the exact optimum: the cut is found among 2^15 bins (1 part
in 128), and within its bin counts are interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from prunegrid.pruning.allocation.counts import histogram

CITE = ("lecun1989optimal",)
NEEDS = "input_norms"
SETTINGS: dict[str, Any] = {"shift": 0.1}
MEANINGS = {
    "shift": "The most that a linear's sparsity may leave the target.",
}


def allocate(
    blocks: Mapping[str, Mapping[str, Tensor]],
    sparsity: float,
    norms: Mapping[str, Tensor],
    *,
    shift: float = 0.1,
) -> dict[str, float]:
    """Return linear → sparsity.

    Args:
        shift: how far a linear's sparsity may lie from the target.
    """
    names, counts, reached = [], [], []
    # One linear at a time: a large model's weights are read from its files as they are asked for.
    for name, weight in ((n, w) for linears in blocks.values() for n, w in linears.items()):
        errors = weight.float().square() * norms[name].to(weight.device)
        total = errors.double().sum().clamp(min=1e-300)
        # Far above the smallest float32, whose order would be lost.
        reached.append(histogram(errors / total.float() * 1e12).cumsum(0).double())
        names.append(name)
        counts.append(float(weight.numel()))
    sizes = torch.tensor(counts, dtype=torch.float64)
    low, high = max(sparsity - shift, 0.0), min(sparsity + shift, 1.0)
    # [linears, bins]: the sparsity of each linear if it were cut above each bin.
    cut = (torch.stack(reached) / sizes[:, None]).clamp(low, high)
    asked, target = (cut * sizes[:, None]).sum(0), sparsity * sizes.sum()
    place = int((asked >= target).nonzero()[0]) if float(asked[-1]) >= float(target) else -1
    before = cut[:, place - 1] if place > 0 else torch.full_like(sizes, low)
    start, end = (before * sizes).sum(), asked[place]
    part = ((target - start) / (end - start)).clamp(0, 1) if float(end) > float(start) else 0.0
    shares = before + (cut[:, place] - before) * part
    return dict(zip(names, shares.tolist(), strict=True))
