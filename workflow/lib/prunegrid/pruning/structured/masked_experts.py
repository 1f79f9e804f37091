"""The model in which a router never chooses some experts: their logits are −∞.

Products with a router's matrix are looked at where they are computed, and biases that choose among
experts are −∞ meanwhile. That is the model which one without these experts must be equal to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from prunegrid.pruning.expert_inputs import PRODUCTS
from prunegrid.pruning.structured.unit_groups import Experts

# Functions that give a router's matrix in another dtype.
CASTS = ("to", "float", "type", "double")


class _Logits(TorchFunctionMode):
    """Makes some outputs of products with some matrices −∞, while entered.

    Args:
        gone: address of a matrix [experts, d] → experts.
    """

    def __init__(self, gone: Mapping[int, Tensor]) -> None:
        super().__init__()
        self._gone, self._cast = dict(gone), []

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, output = getattr(func, "__name__", ""), func(*args, **(kwargs or {}))
        given = [v for v in (*args, *(kwargs or {}).values()) if isinstance(v, Tensor)]
        if name in CASTS and given and given[0].data_ptr() in self._gone:
            self._gone[output.data_ptr()] = self._gone[given[0].data_ptr()]
            self._cast.append(output)  # so that no other tensor gets its address
        elif name in PRODUCTS and len(given) > 1 and given[1].data_ptr() in self._gone:
            experts = self._gone[given[1].data_ptr()].to(output.device)
            output = output.index_fill(-1, experts, -torch.inf)
        return output


@contextlib.contextmanager
def without_experts(
    model: nn.Module, groups: Sequence[Experts], removed: Mapping
) -> Iterator[None]:
    """Let no token choose the experts that go, inside the context.

    Args:
        removed: ("experts", block) → experts that go.
    """
    state, products = model.state_dict(keep_vars=True), {}
    with contextlib.ExitStack() as restore:
        for group in groups:
            going = removed[group.kind, group.block]
            for name, dim in group.slices.items():
                tensor = state[name].detach()
                if name.startswith(f"{group.holder}."):
                    continue
                if tensor.numel() > group.units:
                    products[tensor.data_ptr()] = going
                    continue
                restore.callback(tensor.copy_, tensor.clone())
                tensor.index_fill_(dim, going.to(tensor.device), -torch.inf)
        restore.enter_context(_Logits(products))
        yield
