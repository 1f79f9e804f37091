"""What a model calls its blocks with, seen from inside its own forward, and a check of it.

A block's call is all that it is given beside its hidden states: masks, position embeddings, and in
a decoder the encoder's output.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks, first_tensor
from prunegrid.models.forward import run_window

_CONSTANTS = (bool, int, float, str, bytes, type(None), torch.dtype, torch.device)


class _Enough(Exception):
    """All calls that were asked for are known: the rest of the model is not needed."""


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


def trace(
    model: nn.Module,
    blocks: Blocks,
    window: Tensor,
    run: range,
    ended: Tensor | None,
    extras: list[tuple | None],
) -> tuple[Tensor, dict[int, Call]]:
    """Return what enters the first block of `run`, and each one's call, without running any block.

    Args:
        window: int64 [1, tokens].
        run: indices of blocks between which the model hands nothing on but their outputs.
        ended: the output of the block before `run`, [1, tokens, d]; None where there is none.
        extras: by block what it returns after the hidden states; None: a bare tensor.
    """
    calls: dict[int, Call] = {}
    entering: list[Tensor] = []

    def make(index: int):
        def forward(*args: Any, **kwargs: Any) -> Tensor | tuple:
            hidden, call = _split(args, kwargs)
            if index in run:
                entering.append(hidden)
                calls[index] = call
                if len(calls) == len(run):
                    raise _Enough
            elif index + 1 == run.start:
                hidden = ended
            more = extras[index]
            return hidden if more is None else (hidden, *more)

        return forward

    with _replaced(blocks.modules, make), contextlib.suppress(_Enough):
        run_window(model, window)
    return entering[0], calls


def _split(args: tuple, kwargs: dict[str, Any]) -> tuple[Tensor, Call]:
    """Return a block call's hidden states and the rest of it."""
    if args:
        return args[0], Call(args[1:], kwargs, named=False)
    if "hidden_states" not in kwargs:
        raise PrunegridError(
            f"a block is called with {', '.join(kwargs) or 'nothing'}",
            expected="hidden states, first or by their name",
            remedy="this architecture is not supported",
        )
    rest = {key: value for key, value in kwargs.items() if key != "hidden_states"}
    return kwargs["hidden_states"], Call((), rest, named=True)


def shared(call: Call, first: Call) -> Call:
    """Return the call with what equals `first`'s taken from it, so that masks are held once.

    What a block may write into (a dict, a list, a cache) is never taken from another sample.
    """
    if len(call.args) != len(first.args):
        return call
    args = tuple(f if _equal(a, f) else a for a, f in zip(call.args, first.args, strict=True))
    kwargs = {
        key: first.kwargs[key]
        if key in first.kwargs and _equal(value, first.kwargs[key])
        else value
        for key, value in call.kwargs.items()
    }
    return Call(args, kwargs, call.named)


def _equal(a: Any, b: Any) -> bool:
    """Return whether two values are equal and neither can change."""
    if isinstance(a, torch.Tensor):
        alike = isinstance(b, torch.Tensor) and (a.shape, a.dtype) == (b.shape, b.dtype)
        return a is b or (alike and torch.equal(a, b))
    if isinstance(a, tuple):
        alike = type(a) is type(b) and len(a) == len(b)
        return alike and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and isinstance(a, _CONSTANTS) and a == b


@dataclass(frozen=True)
class Seen:
    """One call of a block inside the model.

    Attributes:
        index: the block's.
        handed_on: whether it was given the very output of the call before it.
        output: hidden states [1, tokens, d].
        repeats: whether it called one of its linears more than once.
        extras: what it returned after them; None where it returned a tensor.
    """

    index: int
    handed_on: bool
    output: Tensor
    extras: tuple | None
    repeats: bool


def observe(model: nn.Module, blocks: Blocks, window: Tensor) -> tuple[list[Seen], set[str]]:
    """Return every call of a block in the model's own forward, in their order.

    Args:
        window: int64 [1, tokens].

    Returns:
        the calls, and the names of linears that were called outside their own block.
    """
    seen: list[Seen] = []
    strays: set[str] = set()
    handed_on, called, active = [False], [], [""]

    def before(name: str, args: tuple, kwargs: dict) -> None:
        called.clear()
        active[0] = name
        handed_on[0] = bool(seen) and _equal(_split(args, kwargs)[0], seen[-1].output)

    def after(index: int, output: Any) -> None:
        extras = tuple(output[1:]) if isinstance(output, tuple) else None
        # A clone, in case that the model goes on in place.
        twice = len(set(called)) < len(called)
        seen.append(Seen(index, handed_on[0], first_tensor(output).clone(), extras, twice))
        active[0] = ""

    def linear_called(block: str, linear: str) -> None:
        called.append(linear)
        if active[0] != block:
            strays.add(linear)

    handles = []
    for index, (name, block) in enumerate(zip(blocks.names, blocks.modules, strict=True)):
        handles += [
            block.register_forward_pre_hook(
                lambda _m, args, kwargs, name=name: before(name, args, kwargs), with_kwargs=True
            ),
            block.register_forward_hook(lambda _m, _a, output, index=index: after(index, output)),
        ]
        handles += [
            linear.register_forward_pre_hook(
                lambda *_, name=name, inner=inner: linear_called(name, inner)
            )
            for inner, linear in blocks.linears[name].items()
        ]
    try:
        run_window(model, window)
    finally:
        for handle in handles:
            handle.remove()
    return seen, strays


@dataclass(frozen=True)
class Order:
    """In which way a model runs its blocks, on one window.

    Attributes:
        runs: the blocks, cut where the model does something of its own between two.
        extras: what every block returns after the hidden states; None where it returns a tensor.
        repeating: indices of the blocks that call one of their linears more than once.
    """

    runs: list[range]
    extras: list[tuple | None]
    repeating: set[int]


def order_of(model: nn.Module, blocks: Blocks, window: Tensor) -> Order | str:
    """Return in which way a model runs its blocks; a text where no hand could do so.

    Args:
        window: int64 [1, tokens].
    """
    own, strays = observe(model, blocks, window)
    if len(own) != len(blocks.modules):
        return f"{len(blocks.modules)} blocks were called {len(own)} times"
    if [seen.index for seen in own] != list(range(len(own))):
        return f"they run in the order {', '.join(blocks.names[seen.index] for seen in own)}"
    if strays:
        return f"{', '.join(sorted(strays))} is called outside its block"
    # Of another window, so that what depends on more than positions is found to be wrong.
    extras = [seen.extras for seen in observe(model, blocks, window.flip(1))[0]]
    starts = [seen.index for seen in own if not seen.handed_on]
    runs = [range(*ends) for ends in zip(starts, [*starts[1:], len(own)], strict=True)]
    return Order(runs, extras, {seen.index for seen in own if seen.repeats})
