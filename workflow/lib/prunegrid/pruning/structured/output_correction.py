"""Correction of the weights that stay, in closed form, for the units that go.

An output linear W [d_out, d_in] (the MLP's down projection, the attention's output) loses input
columns R and keeps K. With H = (2/n) XᵀX over its calibration inputs and λ a share of H's mean
diagonal, the weights that minimise the error of its output ‖X_K W'ᵀ - X Wᵀ‖² · 2/n + λ ‖W' - W_K‖²
are

    W' = W_K + W_R H_RK (H_KK + λI)⁻¹,

which is W H_·K H_KK⁻¹ where λ is 0: what `prunegrid.pruning.updates.least_squares` comes to by
iteration for any mask, here by one Cholesky factorisation in float64; for groups it is Optimal
Brain Surgeon's update, as in ZipLM (Kurtic et al. 2023, arXiv:2302.04089). Deviation: λ pulls
towards W_K, not towards 0.

Blocks are corrected in the order in which they run: a block's inputs come from its corrected
predecessors, and in a block the attention is corrected before the MLP is looked at. Biases stay.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from prunegrid.models.blocks import oriented
from prunegrid.pruning.column_sweep import dampened, with_more_dampening
from prunegrid.pruning.holding import Storage
from prunegrid.pruning.replay import Replay
from prunegrid.pruning.structured.units import Units

log = logging.getLogger(__name__)

CITE = ("kurtic2023ziplm",)
SETTINGS: dict[str, Any] = {"dampening": 0.01}


def corrected(
    weight: Tensor, removed: Tensor, hessian: Tensor, *, dampening: float = 0.01
) -> tuple[Tensor, dict[str, Any]]:
    """Return the weight [d_out, d_in] with zeros in the removed columns and the others corrected.

    Args:
        removed: bool [d_in].
        hessian: (2/n) XᵀX, float32 [d_in, d_in].
        dampening: λ as a fraction of the mean diagonal of H; inputs that were always zero get
            H_jj = 1.

    Returns:
        also {dampening, precision, fallbacks, error_before, error_after}: the relative errors of
        the output, ‖X ŵᵀ - X Wᵀ‖² / ‖X Wᵀ‖², of leaving the columns out and of the correction.

    Raises:
        PrunegridError: H is not positive definite with any dampening that is tried.
    """
    exact, dense = hessian.double(), weight.double()
    gone, kept = removed.nonzero().flatten(), (~removed).nonzero().flatten()
    cross = dense[:, gone] @ exact[gone][:, kept]

    def change(damped: float, _precision: torch.dtype) -> Tensor | None:
        """Return cross (H_KK + λI)⁻¹."""
        whole = dampened(exact.clone(), damped)
        lower, info = torch.linalg.cholesky_ex(whole[kept][:, kept])
        return None if int(info) else torch.cholesky_solve(cross.t(), lower).t()

    added, facts = with_more_dampening(change, dampening, (torch.float64,), len(exact))
    new = dense.clone()
    new[:, gone] = 0
    before = new - dense
    new[:, kept] += added
    result = new.to(weight.dtype)
    scale = float(((dense @ exact) * dense).sum())
    errors = [float(((d @ exact) * d).sum()) for d in (before, result.double() - dense)]
    relative = [max(error, 0.0) / scale if scale else 0.0 for error in errors]
    return result, {**facts, "error_before": relative[0], "error_after": relative[1]}


@torch.no_grad()
def correct_model(
    units: Units, removed: Mapping, tokens: Tensor, storage: Storage, **settings: Any
) -> dict[str, dict[str, Any]]:
    """Remove units and correct the other weights, in place; return {output linear: facts}.

    The removed columns become zero; the model keeps its shapes.

    Args:
        units: of "heads" and "mlp".
        removed: (kind, block) → int64 indices of the units that go.
        tokens: calibration windows, int64 [samples, length].
        settings: dampening.
    """
    blocks = units.blocks
    replay = Replay(units.model, blocks, tokens, storage)
    facts: dict[str, dict[str, Any]] = {}
    for index, block in enumerate(tqdm(blocks.names, desc="correct", unit="block", disable=None)):
        in_block = [group for group in units.groups if group.block == block]
        for group in sorted(in_block, key=lambda g: g.kind):  # heads before mlp
            (name, columns), *_ = group.columns.items()
            going = removed[group.kind, block]
            if not len(going):
                continue
            linear = blocks.linears[block][name]
            hessian = replay.stats(index, "hessian", {name: linear})[name].hessian
            weight = oriented(linear)
            gone = torch.zeros(weight.shape[1], dtype=torch.bool, device=weight.device)
            gone[columns[going].flatten().to(weight.device)] = True
            new, facts[name] = corrected(weight, gone, hessian, **settings)
            weight.copy_(new)
            before, after = facts[name]["error_before"], facts[name]["error_after"]
            log.info("%s: output error %.4g → %.4g", name, before, after)
        replay.advance_all(index)
    return facts
