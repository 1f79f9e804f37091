"""OWL, outlier-weighed layerwise sparsity (Yin et al., ICML 2024, arXiv:2310.05175, section 3).

A block's outlier ratio D is the share of its weights whose Wanda score |W_ij| · ‖X_j‖₂ exceeds
`multiple` (the paper's M) times the mean score of the block. Blocks with more outliers keep more:
sparsities are 1 - D scaled linearly to a range of 2 · `shift` (the paper's λ) and centred on the
target. All linears of a block get the same.

Deviations: the mean is weighted by the linears' sizes and the counts are rounded so that the whole
model's sparsity is exact; where all blocks have the same ratio the allocation is uniform.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

CITE = ("yin2024owl",)
NEEDS = "input_norms"
SETTINGS: dict[str, Any] = {"multiple": 5.0, "shift": 0.08}
MEANINGS = {
    "multiple": "Outliers score above so many times the block's mean (the paper's M).",
    "shift": "Half the range of the blocks' sparsities (the paper's λ).",
}


def allocate(
    blocks: Mapping[str, Mapping[str, Tensor]],
    sparsity: float,
    norms: Mapping[str, Tensor],
    *,
    multiple: float = 5.0,
    shift: float = 0.08,
) -> dict[str, float]:
    """Return linear → sparsity, one for all linears of a block.

    Args:
        multiple: how many times the block's mean score makes an outlier.
        shift: how far the extremes of the blocks may lie from the target, together twice this.
    """
    ratios = {block: _outliers(linears, norms, multiple) for block, linears in blocks.items()}
    low, high = min(ratios.values()), max(ratios.values())
    scale = 2 * shift / (high - low) if high > low else 0.0
    keeps = {block: (ratio - low) * scale for block, ratio in ratios.items()}
    mean = sum(keeps.values()) / len(keeps)
    return {
        name: min(max(sparsity + mean - keeps[block], 0.0), 1.0)
        for block, linears in blocks.items()
        for name in linears
    }


def _outliers(linears: Mapping[str, Tensor], norms: Mapping[str, Tensor], multiple: float) -> float:
    """Return the share of a block's weights that are outliers."""
    scores = [w.abs().float() * norms[name].to(w.device).sqrt() for name, w in linears.items()]
    count = sum(score.numel() for score in scores)
    limit = multiple * sum(float(score.double().sum()) for score in scores) / count
    return sum(int((score > limit).sum()) for score in scores) / count
