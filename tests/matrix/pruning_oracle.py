"""The oracle of pruning: scores, masks and updates in plain torch, in float64.

Masks are compared progressively: what the library chose goes on, so that a near-tie, which
rounding may decide either way, changes nothing that comes after it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.matrix import oracle
from tests.matrix.checks import require, require_names
from tests.matrix.expert_oracle import Expert

# Inputs that come through a few blocks in float32 are known to about 1e-5.
SCORE_TIE = 1e-4
# A solution of H x = b in float32 is known to ε times the condition of H, about 1e4 here.
SOLUTION_TIE = 5e-3
SOLUTION_TOLERANCE = 5e-3
DAMPENING = 0.01


def require_nm(name: str, weight: Tensor, keep: int, group: int) -> None:
    """Check that exactly `keep` of each `group` consecutive input columns stay."""
    nonzero = (weight != 0).reshape(weight.shape[0], -1, group).sum(-1)
    require(bool((nonzero <= keep).all()), f"{name} keeps more than {keep} of {group}")
    require(
        bool((nonzero == keep).all()),
        f"{name} keeps fewer than {keep} of {group}: more is gone than asked",
    )


def require_lowest(name: str, scores: Tensor, gone: Tensor, share: float, tie: float) -> None:
    """Check that of each row of scores a share is gone, and no clearly lower score is left."""
    wanted = int(share * scores.shape[1])
    require(
        bool((gone.sum(1) == wanted).all()),
        f"{name}: not exactly {share:g} of each group of weights is gone",
    )
    highest = scores.masked_fill(~gone, 0).amax(1)
    lowest = scores.masked_fill(gone, torch.inf).amin(1)
    wrong = int((highest > (1 + tie) * lowest).sum())
    require(wrong == 0, f"{name}: the mask is not the one of the lowest scores")


def require_magnitude(name: str, before: Tensor, after: Tensor, group: int) -> None:
    """Check a magnitude mask of half of each group of columns; the others are not changed."""
    parts, gone = before.reshape(-1, group), (after == 0).reshape(-1, group)
    require_lowest(name, parts.abs(), gone, 0.5, 0.0)
    require_unchanged(name, before, after)


def require_unchanged(name: str, before: Tensor, after: Tensor) -> None:
    """Check that weights that stay are those from before."""
    stays = after != 0
    require(torch.equal(before[stays], after[stays]), f"{name}: weights that stay have changed")


def require_others_unchanged(
    before: dict[str, Tensor], after: dict[str, Tensor], changed: set[str]
) -> None:
    """Check that all tensors but those named are the same bytes."""
    require_names("tensors", after, before)
    for name, value in before.items():
        if name not in changed:
            require(torch.equal(value, after[name]), f"{name} has changed")


def walk(model: nn.Module, lists: list[str], pruned: nn.Module, windows: Tensor):
    """Yield (name, weight before, weight after, inputs) block by block.

    The inputs are those that the model's own forward gives when all blocks before this one are as
    the library pruned them.
    """
    after = oracle.all_linears(pruned, lists)
    for linears in oracle.linears_by_block(model, lists).values():
        given = oracle.inputs_of(model, linears, windows)
        for name, module in linears.items():
            if name not in given and isinstance(module, Expert):
                weight = oracle.weight_of(module)
                # Such an expert is pruned as if its inputs were alike.
                given[name] = torch.eye(weight.shape[1], dtype=torch.float64)
            if name not in given:
                same = torch.equal(oracle.weight_of(module), oracle.weight_of(after[name]))
                require(same, f"{name} is pruned by inputs, and the model never calls it")
                continue
            yield (
                name,
                oracle.weight_of(module).clone(),
                oracle.weight_of(after[name]),
                given[name],
            )
        with torch.no_grad():
            for name, module in linears.items():
                oracle.weight_of(module).copy_(oracle.weight_of(after[name]))


def require_wanda(name: str, before: Tensor, after: Tensor, inputs: Tensor) -> None:
    """Check Wanda's mask at 50%: |w| times the norm of its input, by rows."""
    scores = before.double().abs() * inputs.square().mean(0).sqrt()
    require_lowest(name, scores, after == 0, 0.5, SCORE_TIE)
    require_unchanged(name, before, after)


def require_sparsegpt(
    name: str, before: Tensor, after: Tensor, inputs: Tensor, dampening: float = DAMPENING
) -> None:
    """Check SparseGPT's 2:4 mask and weights: algorithm 1 of the paper, column by column.

    Weights of inputs that are always zero count towards the zeros; those that stay are unchanged.
    """
    weight, gone = before.double().clone(), after == 0
    hessian = 2 * inputs.t() @ inputs / len(inputs)
    dead = hessian.diagonal() == 0
    hessian[dead, dead] = 1
    hessian += dampening * hessian.diagonal().mean() * torch.eye(len(hessian))
    root = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    for column in range(weight.shape[1]):
        if column % 4 == 0:
            part = slice(column, column + 4)
            scores = (weight[:, part] / root.diagonal()[part]).square()
            scores[:, dead[part]] = 0  # weights of inputs that are always zero go first
            require_lowest(name, scores, gone[:, part], 0.5, SOLUTION_TIE)
        error = weight[:, column] * gone[:, column] / root[column, column]
        weight[:, column:] -= error[:, None] * root[column, column:]
        weight[gone[:, column], column] = 0
    apart = float((weight - after.double()).norm() / weight.norm())
    require(apart <= SOLUTION_TOLERANCE, f"{name}: the weights are not SparseGPT's solution")
