"""Scores of experts by what they give the tokens that reach them, in the model's own pass.

In each call of a module of experts every token's experts are run once more, one place of the
routing at a time and with the weight 1, so their outputs are seen before they are weighted.
Weighted and summed they must be what the model computed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from tqdm.auto import tqdm

from prunegrid.common.errors import PrunegridError
from prunegrid.models.experts import one_by_one
from prunegrid.models.forward import device_of, run_window
from prunegrid.pruning.input_stats import activations_error, is_finite
from prunegrid.pruning.structured.expert_routing import Routing, routing_of
from prunegrid.pruning.structured.unit_groups import Experts

# Of the largest output, in float32: how far the sum of weighted outputs may be from the model's.
TOLERANCE = 1e-3

Importance = Callable[[Tensor, Tensor], Tensor]


class _Watched:
    """Sums of one block's experts over tokens.

    Attributes:
        sums: float64 [experts], of the importance of each expert's tokens.
        tokens: int64 [experts], how many reached it.
    """

    def __init__(self, group: Experts, forward: Callable, importance: Importance) -> None:
        self._group, self._forward, self._importance = group, forward, importance
        self.sums = torch.zeros(group.units, dtype=torch.float64)
        self.tokens = torch.zeros(group.units, dtype=torch.int64)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Run the experts as the model does, and add what they gave."""
        output, routing = self._forward(*args, **kwargs), routing_of(args, kwargs)
        if routing is None:
            raise _unclear(self._group, "the router's choice and weights are not given to them")
        self._add(routing, output)
        return output

    def _add(self, routing: Routing, output: Tensor) -> None:
        total = torch.zeros_like(output, dtype=torch.float32)
        for place, given in enumerate(routing.outputs(self._forward)):
            if given.shape != output.shape:
                raise _unclear(self._group, f"one expert a token gives {list(given.shape)}")
            given, gates = given.float(), routing.gates[:, place].float()
            if not is_finite(given):
                raise activations_error(self._group.holder)
            total += given * gates[:, None]
            # A router may give an index past the last expert to tokens that get none.
            chosen = one_hot(routing.index[:, place].long(), self._group.units + 1)[:, :-1]
            scores = self._importance(gates, given.norm(dim=-1)).double()
            self.sums += (scores @ chosen.double()).cpu()
            self.tokens += chosen.sum(0).cpu()
        apart, largest = (total - output.float()).abs().max(), output.float().abs().max()
        if not apart <= max(TOLERANCE, 8 * torch.finfo(output.dtype).eps) * largest:
            raise _unclear(self._group, "their weighted outputs do not add up to the block's")

    def scores(self) -> Tensor:
        """Return the means over tokens, float64 [experts]; NaN where no token came."""
        return self.sums / self.tokens


def _unclear(group: Experts, what: str) -> PrunegridError:
    return PrunegridError(
        f"the outputs of single experts cannot be followed: {what}",
        where=group.holder,
        expected="experts that are given hidden states, indices and weights of each token",
        remedy="take method magnitude or random for this architecture",
    )


@torch.no_grad()
def routed_scores(
    model: nn.Module,
    groups: Sequence[Experts],
    importance: Importance,
    tokens: Tensor,
) -> dict[tuple[str, str], Tensor]:
    """Return (kind, block) → the scores of its experts, float64 [experts].

    A score is the mean of a criterion's importance over the tokens that reach the expert; it is NaN
    where none does.

    Args:
        importance: maps an expert's gates and its outputs' norms, float32 [tokens], to [tokens].
        tokens: calibration windows, int64 [samples, length].

    Raises:
        PrunegridError: outputs of single experts cannot be followed, or are not finite.
    """
    watched: dict[str, _Watched] = {}
    with contextlib.ExitStack() as restore:
        restore.enter_context(one_by_one(model))
        for group in groups:
            holder = model.get_submodule(group.holder)
            watched[group.block] = _Watched(group, holder.forward, importance)
            holder.forward = watched[group.block]
            restore.callback(delattr, holder, "forward")
        for window in tqdm(tokens, desc="experts", unit="window", disable=None):
            run_window(model, window[None].to(device_of(model)))
    return {("experts", block): sums.scores() for block, sums in watched.items()}
