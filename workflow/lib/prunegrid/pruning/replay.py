"""A model's blocks run one after another by hand, with the arguments that the model gives them.

The model itself computes what enters its first block and what it hands to every block beside the
hidden states (masks, position embeddings); then the blocks can be run one at a time over all
samples. That this equals the model's own forward is checked on a short window before it is used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.blocks import Blocks, first_tensor
from prunegrid.errors import PrunegridError
from prunegrid.input_stats import is_finite

PROBE_TOKENS = 8


class _Enough(Exception):
    """All blocks have been called: the rest of the model is not needed."""


@dataclass(frozen=True)
class Call:
    """What a block is called with beside its hidden states."""

    args: tuple
    kwargs: dict[str, Any]
    named: bool

    def run(self, block: nn.Module, hidden: Tensor) -> Tensor:
        """Return the block's hidden states for [1, tokens, d] hidden states."""
        if self.named:
            return first_tensor(block(*self.args, hidden_states=hidden, **self.kwargs))
        return first_tensor(block(hidden, *self.args, **self.kwargs))


class Replay:
    """Hidden states of every sample at one block boundary, and how to take them to the next.

    Attributes:
        hidden: one [1, tokens, d] tensor a sample, in the model's dtype.

    Args:
        model: in eval mode, on its device.
        blocks: its blocks.
        tokens: int64 [samples, length].

    Raises:
        PrunegridError: run by hand, the blocks do not give what the model gives.
    """

    def __init__(self, model: nn.Module, blocks: Blocks, tokens: Tensor) -> None:
        self.blocks = blocks
        self.hidden: list[Tensor] = []
        self._calls: list[list[Call]] = []
        device = next(model.parameters()).device
        extras = _require_equal_forward(model, blocks, tokens[:1, :PROBE_TOKENS].to(device))
        for window in tokens:
            hidden, calls = _trace(model, blocks, window[None].to(device), extras)
            if self._calls:
                calls = [_shared(c, first) for c, first in zip(calls, self._calls[0], strict=True)]
            self.hidden.append(hidden)
            self._calls.append(calls)

    @property
    def device(self) -> torch.device:
        """Where the blocks run and statistics live."""
        return self.hidden[0].device

    def is_last(self, index: int) -> bool:
        """Return whether no block comes after this one."""
        return index + 1 == len(self.blocks.names)

    def run(self, index: int, sample: int) -> Tensor:
        """Return block `index`'s output for a sample, whose stored hidden states stay."""
        return self._calls[sample][index].run(self.blocks.modules[index], self.hidden[sample])

    def advance(self, index: int, sample: int, output: Tensor) -> None:
        """Store a sample's output of block `index` as the next block's input.

        Raises:
            PrunegridError: it holds NaN or infinity.
        """
        if not is_finite(output):
            raise PrunegridError(
                "NaN or infinite activations",
                where=f"{self.blocks.names[index]}, calibration sample {sample}",
                remedy="the model is broken or its dtype too narrow: check its weights, or load "
                "it in float32",
            )
        self.hidden[sample] = output


@contextlib.contextmanager
def _replaced(modules: list[nn.Module], make) -> Iterator[None]:
    """Give every module the forward `make(index)` for a while."""
    try:
        for index, module in enumerate(modules):
            module.forward = make(index)
        yield
    finally:
        for module in modules:
            module.__dict__.pop("forward", None)


def _trace(
    model: nn.Module, blocks: Blocks, window: Tensor, extras: int | None
) -> tuple[Tensor, list[Call]]:
    """Return what enters the first block, and each block's call, without running any block.

    Args:
        extras: how many values a block returns after the hidden states; None: a bare tensor.
    """
    calls: list[Call] = []
    entering: list[Tensor] = []

    def make(index: int):
        def forward(*args: Any, **kwargs: Any) -> Tensor | tuple:
            hidden, call = _split(args, kwargs)
            entering.append(hidden)
            calls.append(call)
            if len(calls) == len(blocks.modules):
                raise _Enough
            return hidden if extras is None else (hidden, *[None] * extras)

        return forward

    with _replaced(blocks.modules, make), contextlib.suppress(_Enough):
        model(window, use_cache=False)
    return entering[0], calls


def _split(args: tuple, kwargs: dict[str, Any]) -> tuple[Tensor, Call]:
    """Return a block call's hidden states and the rest of it."""
    if args:
        return args[0], Call(args[1:], kwargs, named=False)
    rest = {key: value for key, value in kwargs.items() if key != "hidden_states"}
    return kwargs["hidden_states"], Call((), rest, named=True)


def _shared(call: Call, first: Call) -> Call:
    """Return `first` where it is equal, so that masks are held once and not once a sample."""
    same = (call.named == first.named) and _equal(call.args, first.args)
    return first if same and _equal(call.kwargs, first.kwargs) else call


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return (
            type(a) is type(b)
            and len(a) == len(b)
            and all(_equal(x, y) for x, y in zip(a, b, strict=True))
        )
    return a is b or (type(a) is type(b) and a == b)


def _require_equal_forward(model: nn.Module, blocks: Blocks, window: Tensor) -> int | None:
    """Check on one short window that the blocks run by hand give what the model's own do.

    Returns:
        how many values a block returns after the hidden states; None where it returns a tensor.
    """
    outputs: list[Tensor] = []
    extras: list[int | None] = []

    def note(_module: nn.Module, _args: tuple, output: Any) -> None:
        outputs.append(first_tensor(output).clone())
        extras.append(len(output) - 1 if isinstance(output, tuple) else None)

    handles = [block.register_forward_hook(note) for block in blocks.modules]
    try:
        model(window, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    fault = ""
    if len(outputs) != len(blocks.modules):
        fault = f"{len(blocks.modules)} blocks were called {len(outputs)} times"
    else:
        hidden, calls = _trace(model, blocks, window, extras[0])
        for index, (call, block) in enumerate(zip(calls, blocks.modules, strict=True)):
            before = hidden.clone()
            after = call.run(block, hidden)
            if not torch.equal(before, hidden):
                fault = f"{blocks.names[index]} changes its input in place"
                break
            if not torch.allclose(after, outputs[index], rtol=1e-3, atol=1e-5, equal_nan=True):
                fault = f"{blocks.names[index]} gives something else than inside the model"
                break
            hidden = after
    if fault:
        raise PrunegridError(
            f"the blocks cannot be run one after another: {fault}",
            where=type(model).__name__,
            expected="blocks that pass nothing on but their hidden states",
            remedy="this architecture is not supported",
        )
    return extras[0]
