"""What each of a layer's fused experts is given, seen where the model multiplies by its matrix.

Inside the experts' forward each product of an input and a weight is looked at. A weight that lies
in a fused tensor's memory is an expert's, and its input is what is multiplied. Nothing is taken for
granted of the routing, the gates or the activations: what is seen is what the model computes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import oriented
from prunegrid.models.experts import ExpertLinear, experts_of

# Functions of an input and a weight [d_in, d_out]; that of `linear` is [d_out, d_in].
PRODUCTS = ("linear", "matmul", "mm", "bmm")


class _Products(TorchFunctionMode):
    """Calls `see(tensor's name, expert, inputs)` for each product with experts, while entered."""

    def __init__(self, owner: nn.Module, see: Callable[[str, int, Tensor], None]) -> None:
        super().__init__()
        self._see, self._experts = see, list(experts_of(owner).values())
        self._places = {linear.weight.data_ptr(): linear for linear in self._experts}
        self.tokens: dict[str, dict[int, int]] = {linear.leaf: {} for linear in self._experts}

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in PRODUCTS:
            inputs, weight = [*args, *kwargs.values()][:2]
            linear = self._places.get(weight.data_ptr())
            if linear is not None and weight.dim() > 1:
                self._look(linear, inputs, weight if name == "linear" else weight.mT)
        return func(*args, **kwargs)

    def _look(self, linear: ExpertLinear, inputs: Tensor, weight: Tensor) -> None:
        """Tell a product's inputs: [tokens, d_in], or [experts, tokens, d_in] of all at once."""
        together = weight.dim() == 3
        experts = [e for e in self._experts if e.leaf == linear.leaf] if together else [linear]
        for expert in experts:
            part = weight[expert.index] if together else weight
            given = inputs[expert.index] if together else inputs
            whole = oriented(expert)
            if (part.shape, part.stride()) != (whole.shape, whole.stride()):
                raise _unclear(f"{expert.leaf} is multiplied in parts, or as its transpose")
            given = given.reshape(-1, given.shape[-1])
            if together:  # a token that is not the expert's stands there as zeros
                given = given[given.any(1)]
            if len(given):
                seen = self.tokens[expert.leaf]
                seen[expert.index] = seen.get(expert.index, 0) + len(given)
                self._see(expert.leaf, expert.index, given)

    def require_followed(self) -> None:
        """Check that each of the tensors saw the same tokens of each expert, and some at all."""
        first, *others = self.tokens.values()
        if not first or any(other != first for other in others):
            raise _unclear(f"of the products with {', '.join(self.tokens)} not all are seen")


def _unclear(message: str) -> PrunegridError:
    return PrunegridError(
        f"the inputs of fused experts cannot be followed: {message}",
        expected="one product with each expert's whole matrix",
        remedy="this architecture is not supported by methods that need inputs",
    )


@contextlib.contextmanager
def watching_experts(
    linears: Mapping[str, ExpertLinear], see: Callable[[str, tuple], None]
) -> Iterator[None]:
    """Call `see(name, (inputs [tokens, d_in],))` before each product with an expert's matrix.

    The model must multiply by one expert at a time (`models.experts.one_by_one`).

    Raises:
        PrunegridError: inside the context, if a forward's products cannot be told.
    """
    names = {(id(e.owner), e.leaf, e.index): name for name, e in linears.items()}
    owners = {id(e.owner): e.owner for e in linears.values()}
    with contextlib.ExitStack() as restore:
        for owner in owners.values():
            # Another watch around this one has put its own there.
            restore.callback(_set_forward, owner, vars(owner).get("forward"))
            owner.forward = _looking(owner, names, see)
        yield


def _set_forward(owner: nn.Module, forward: Callable[..., Any] | None) -> None:
    """Give a module a forward of its own, or its class's again (None)."""
    if forward is None:
        del owner.forward
    else:
        owner.forward = forward


def _looking(
    owner: nn.Module,
    names: Mapping[tuple[int, str, int], str],
    see: Callable[[str, tuple], None],
) -> Callable[..., Any]:
    """Return the owner's forward that tells its products."""
    own = owner.forward

    def tell(leaf: str, index: int, inputs: Tensor) -> None:
        name = names.get((id(owner), leaf, index))
        if name is not None:
            see(name, (inputs,))

    def forward(*args: Any, **kwargs: Any) -> Any:
        with _Products(owner, tell) as products:
            output = own(*args, **kwargs)
        products.require_followed()
        return output

    return forward
