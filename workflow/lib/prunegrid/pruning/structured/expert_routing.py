"""What a router gives a block's experts: which of them each token gets, and with which weights.

The module that holds fused experts is called with hidden states [tokens, d], the indices of each
token's experts [tokens, top_k] and their weights of the same shape. Which argument is which is told
by dtype and shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Routing(NamedTuple):
    """One call of a module of experts.

    Attributes:
        index: int64 [tokens, top_k], the experts of each token.
        gates: [tokens, top_k], the weights with which the model sums their outputs.
    """

    args: tuple
    kwargs: Mapping[str, Any]
    index: Tensor
    gates: Tensor

    def outputs(self, forward: Callable[..., Tensor]) -> Iterator[Tensor]:
        """Yield what the experts of each place give before they are weighted, [tokens, d].

        All tokens have one expert then, with the weight 1.

        Args:
            forward: of the module of experts.
        """
        for place in range(self.index.shape[1]):
            index = self.index[:, place : place + 1]
            ones = torch.ones_like(index, dtype=self.gates.dtype)
            swapped = {id(self.index): index, id(self.gates): ones}
            args = [swapped.get(id(value), value) for value in self.args]
            kwargs = {name: swapped.get(id(value), value) for name, value in self.kwargs.items()}
            yield forward(*args, **kwargs)


def routing_of(args: tuple, kwargs: Mapping[str, Any]) -> Routing | None:
    """Return the routing in the arguments of a call; None where it is not in this form."""
    tensors = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.dim() == 2]
    indices = [value for value in tensors if value.dtype in (torch.int64, torch.int32)]
    if len(indices) != 1:
        return None
    gates = [v for v in tensors if v.is_floating_point() and v.shape == indices[0].shape]
    return Routing(args, kwargs, indices[0], gates[0]) if len(gates) == 1 else None
