"""Inputs of a linear in two models at once: a pruned one, and the one before pruning.

With X [n, d_in] the inputs in the dense model and X̂ those in the pruned one, token by token:
hessian = (2/n) X̂ᵀX̂ and cross = (2/n) XᵀX̂, float32 [d_in, d_in], and for each dense weight W
target = (2/n) ‖X Wᵀ‖².
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import oriented
from prunegrid.models.experts import ExpertLinear
from prunegrid.pruning.input_stats import AllSeen, activations_error, is_finite, watching


def inputs_of(
    linears: Mapping[str, nn.Module], forward: Callable[[], Any], *, stop: bool = True
) -> dict[str, list[Tensor]]:
    """Return the very tensors that each linear is given while `forward()` runs, in call order.

    Fused experts are left out: samples reach other ones each.

    Args:
        stop: end the pass when all have been called once.
    """
    inputs: dict[str, list[Tensor]] = {}
    alone = {name: m for name, m in linears.items() if not isinstance(m, ExpertLinear)}

    def see(name: str, args: tuple) -> None:
        inputs.setdefault(name, []).append(args[0])
        if stop and len(inputs) == len(alone):
            raise AllSeen

    with watching(alone, see):
        forward()
    return inputs


def groups(linears: Mapping[str, nn.Module], forward: Callable[[], Any]) -> list[list[str]]:
    """Return the linears' names in call order, grouped by shared input (q, k and v).

    Raises:
        PrunegridError: a linear is not called, or more than once a pass.
    """
    experts = [name for name, linear in linears.items() if isinstance(linear, ExpertLinear)]
    if experts:
        raise PrunegridError(
            "the linear is one of fused experts, which some samples do not reach",
            where=experts[0],
            expected="linears that each sample calls, in a model whose weights are to be refitted",
            remedy="this architecture is not supported by reconstruct",
        )
    inputs = inputs_of(linears, forward, stop=False)
    odd = [name for name in linears if len(inputs.get(name, ())) != 1]
    if odd:
        raise PrunegridError(
            f"the linear is called {len(inputs.get(odd[0], ()))} times a pass",
            where=odd[0],
            expected="once, in a model whose weights are to be refitted",
            remedy="this architecture is not supported by reconstruct",
        )
    grouped: list[list[str]] = []
    for name, (value,) in inputs.items():
        if grouped and inputs[grouped[-1][0]][0] is value:
            grouped[-1].append(name)
        else:
            grouped.append([name])
    return grouped


class Paired:
    """The sums of one input over all samples.

    Attributes:
        hessian, cross: float32 [d_in, d_in].
        targets: name → number, for each of the weights.

    Args:
        weights: dense weights [d_out, d_in] of the linears that share the input, by name.
        width: d_in.
        device: where the sums live.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], width: int, device: torch.device | str
    ) -> None:
        self._tokens, self._weights = 0, weights
        self.targets = dict.fromkeys(weights, 0.0)
        self.hessian = torch.zeros(width, width, device=device)
        self.cross = torch.zeros(width, width, device=device)

    def add(self, dense: Tensor, pruned: Tensor, where: str) -> None:
        """Add a sample's inputs [..., d_in] of both models.

        Raises:
            PrunegridError: they hold NaN or infinity.
        """
        x = dense.reshape(-1, dense.shape[-1]).float()
        y = pruned.reshape(-1, pruned.shape[-1]).float()
        if not (is_finite(x) and is_finite(y)):
            raise activations_error(where)
        self._tokens += len(x)
        self.hessian.addmm_(y.t(), y)
        self.cross.addmm_(x.t(), y)
        for name, weight in self._weights.items():
            self.targets[name] += float((x @ weight.float().t()).square().sum())

    def finish(self) -> Paired:
        """Return itself, the sums scaled by 2/n."""
        scale = 2 / max(self._tokens, 1)
        self.hessian.mul_(scale)
        self.cross.mul_(scale)
        self.targets = {name: value * scale for name, value in self.targets.items()}
        return self


def require_alike(ours: dict, theirs: dict, where: str) -> None:
    """Check that two models have the same linears of the same shapes."""

    def shapes(blocks: dict) -> dict[str, list[int]]:
        return {n: list(oriented(m).shape) for group in blocks.values() for n, m in group.items()}

    if shapes(ours) != shapes(theirs):
        raise PrunegridError(
            "the weights before pruning are of another architecture",
            where=where,
            expected="the same linears of the same shapes",
        )
