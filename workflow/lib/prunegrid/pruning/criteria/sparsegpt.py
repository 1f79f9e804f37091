"""SparseGPT (Frantar & Alistarh, ICML 2023, arXiv:2301.00774), algorithm 1.

With H = (2/n) XᵀX + λI and U the upper Cholesky factor of H⁻¹ (H⁻¹ = UᵀU), columns are visited from
left to right and updated as in `prunegrid.pruning.column_sweep`. The score of w_ij is w_ij² /
U_jj² (eq. 5 in its Cholesky form), which is w_ij² A_jj² with the factor A = U⁻¹ that is used
there. Unstructured masks are chosen per block of `mask_blocksize` columns over all rows; N:M masks
group by group, from the weights as updated so far. λ = dampening · mean(diag H). Inputs that were
always zero ("dead") get H_jj = 1, and their weights go first. Weights that are zero already may
come back by an update; with `nested` they stay zero (and are the first to go), so that each mask of
a model that is pruned in several steps holds the one before.

Deviations from the reference code: counts are exact (it drops one weight more a block, and all
weights of dead inputs on top, as `dead_inputs: all` does); blocks' counts add up to exactly
floor(sparsity · n) for the layer; where M or `mask_blocksize` does not divide `blocksize`, the
block is shortened so that no group is cut; those of `prunegrid.pruning.column_sweep`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunegrid.common.errors import PrunegridError
from prunegrid.pruning.column_sweep import factor_of, sweep
from prunegrid.pruning.input_stats import InputStats
from prunegrid.pruning.patterns import NM, Pattern
from prunegrid.pruning.selection import lowest, lowest_by_row, lowest_of_group

CITE = ("frantar2023sparsegpt",)
NEEDS = "hessian"
# fmt: off
SETTINGS: dict[str, Any] = {
    "dampening": 0.01, "blocksize": 128, "mask_blocksize": None, "nested": False,
    "dead_inputs": "counted",
}
# fmt: on
MEANINGS = {
    "dampening": "The share of H's mean diagonal that is added to the diagonal.",
    "blocksize": "Columns that are pruned before the others are updated.",
    "mask_blocksize": "Columns whose mask is chosen at once. By default `blocksize`.",
    "nested": "Whether weights that are zero already stay zero.",
    "dead_inputs": "Of dead inputs `all` weights go, or as many as are to go (`counted`).",
}
SCOPE = "layer"
DRAWS = False
UPDATES = True
DEAD_INPUTS = ("counted", "all")


def prune_linear(
    weight: Tensor,
    stats: InputStats,
    pattern: Pattern,
    *,
    dampening: float,
    blocksize: int,
    mask_blocksize: int | None,
    nested: bool,
    dead_inputs: str,
) -> tuple[Tensor, dict[str, Any]]:
    """Return the pruned and updated weight [d_out, d_in], and facts of the factorisation.

    Args:
        dampening: λ as a fraction of the mean diagonal of H.
        blocksize: columns an update block.
        mask_blocksize: columns a mask block (unstructured only); None is `blocksize`.
        nested: weights that are zero stay so; where a mask block has more of them than are to go,
            there are more zeros than asked for.
        dead_inputs: "counted": their weights count towards the zeros asked for; "all": all of them
            go, so that there may be more.

    Raises:
        PrunegridError: a setting is out of range, or no dampening makes H positive definite.
    """
    _require_in_range(dampening, blocksize, mask_blocksize, dead_inputs)
    factor, facts = factor_of(stats, dampening)
    columns = weight.t().float().contiguous()
    gone = columns == 0 if nested else None
    dead = stats.hessian.diagonal() == 0
    taken, beyond = None, 0  # weights of dead inputs, and how many go beyond the count
    if dead_inputs == "all":
        taken = dead[:, None] & (columns != 0)
        columns[dead] = 0
    choice = pattern.group if isinstance(pattern, NM) else mask_blocksize or blocksize
    diagonal = factor.diagonal()[:, None]

    def choose(part: Tensor, place: slice) -> Tensor:
        nonlocal beyond
        scores = (part * diagonal[place]).abs_()
        scores[dead[place]] = -1
        if gone is not None:
            scores[gone[place]] = -2
        chosen = _choose(scores, pattern, place, len(columns))
        if taken is not None:
            beyond += int((taken[place] & ~chosen).sum())
        return chosen if gone is None else chosen | gone[place]

    sweep(columns, factor, choose, choice=choice, blocksize=blocksize)
    spare = {} if taken is None else {"dead_beyond": beyond}
    return columns.t().to(weight.dtype).contiguous(), {**facts, **spare}


def _require_in_range(
    dampening: float, blocksize: int, mask_blocksize: int | None, dead_inputs: str
) -> None:
    if dampening < 0 or blocksize < 1 or (mask_blocksize is not None and mask_blocksize < 1):
        raise PrunegridError(
            f"dampening {dampening}, blocksize {blocksize}, mask_blocksize {mask_blocksize}",
            expected="dampening ≥ 0 and blocks of at least one column",
        )
    if dead_inputs not in DEAD_INPUTS:
        raise PrunegridError(
            f"dead_inputs is '{dead_inputs}'", expected=f"one of {', '.join(DEAD_INPUTS)}"
        )


def _choose(scores: Tensor, pattern: Pattern, part: slice, width: int) -> Tensor:
    """Return which weights of Wᵀ [columns, d_out] go, by |w| A_jj (the order of w² / U_jj²)."""
    if isinstance(pattern, NM):
        return lowest_of_group(scores, pattern.group - pattern.keep)
    scores = scores.t().contiguous()
    rows = scores.shape[0]
    if pattern.scope == "row":
        # A row's count, spread over the blocks of its columns.
        counts = pattern.zeros_by_row(rows, width)
        return lowest_by_row(scores, counts * part.stop // width - counts * part.start // width).t()
    count = pattern.zeros_of(part.stop * rows) - pattern.zeros_of(part.start * rows)
    return lowest(scores.reshape(1, -1), count).reshape(scores.shape).t()
