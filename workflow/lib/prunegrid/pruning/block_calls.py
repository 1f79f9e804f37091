"""Calls of a model's blocks inside its own forward, and a check that they can be repeated by hand.

A block's call is all that it is given beside its hidden states: masks, position embeddings, and in
a decoder the encoder's output.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks, first_tensor
from prunegrid.models.forward import run_window
from prunegrid.pruning.input_stats import watching

# So many tokens show what a model does; its forward costs next to nothing then.
PROBE_TOKENS = 8


class _Enough(Exception):
    """All calls are known: the rest of the model is not needed."""


@dataclass(frozen=True)
class Call:
    """What a block is called with beside its hidden states; `named`: these come by keyword."""

    args: tuple
    kwargs: dict[str, Any]
    named: bool

    def run(self, block: nn.Module, hidden: Tensor) -> Tensor:
        """Return the block's hidden states for [1, tokens, d] hidden states."""
        if self.named:
            return first_tensor(block(hidden_states=hidden, **self.kwargs))
        return first_tensor(block(hidden, *self.args, **self.kwargs))


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
        extras: what each block returns after the hidden states; None: a bare tensor.
    """
    calls: dict[int, Call] = {}
    entering: list[Tensor] = []

    def stand_in(index: int):
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

    try:
        for index, block in enumerate(blocks.modules):
            block.forward = stand_in(index)
        with contextlib.suppress(_Enough):
            run_window(model, window)
    finally:
        for block in blocks.modules:
            block.__dict__.pop("forward", None)
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
    """Return the call with what is equal in `first` taken from it: masks are held only once."""

    def one(value: Any, other: Any) -> Any:
        return other if _equal(value, other) else value

    if len(call.args) != len(first.args):
        return call
    args = tuple(map(one, call.args, first.args))
    kwargs = {key: one(value, first.kwargs.get(key)) for key, value in call.kwargs.items()}
    return Call(args, kwargs, call.named)


def _equal(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a is b or ((a.shape, a.dtype) == (b.shape, b.dtype) and torch.equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(_equal, a, b))
    return a is b or a == b


@dataclass(frozen=True)
class Seen:
    """One call of a block inside the model.

    Attributes:
        handed_on: whether it was given the very output of the call before it.
        output: hidden states [1, tokens, d].
        extras: what it returned after them; None where it returned a tensor.
        repeats: whether it called one of its linears more than once.
    """

    index: int
    handed_on: bool
    output: Tensor
    extras: tuple | None
    repeats: bool


def observe(model: nn.Module, blocks: Blocks, window: Tensor) -> list[Seen]:
    """Return every call of a block in the model's own forward on a window, int64 [1, tokens]."""
    seen: list[Seen] = []
    handed_on, called = [False], []

    def before(_module: nn.Module, args: tuple, kwargs: dict) -> None:
        called.clear()
        handed_on[0] = bool(seen) and _equal(_split(args, kwargs)[0], seen[-1].output)

    def after(index: int, output: Any) -> None:
        extras = tuple(output[1:]) if isinstance(output, tuple) else None
        # A clone, in case that the model goes on in place.
        twice = len(set(called)) < len(called)
        seen.append(Seen(index, handed_on[0], first_tensor(output).clone(), extras, twice))

    linears = {name: module for group in blocks.linears.values() for name, module in group.items()}
    with contextlib.ExitStack() as hooks:
        for index, block in enumerate(blocks.modules):
            handles = (
                block.register_forward_pre_hook(before, with_kwargs=True),
                block.register_forward_hook(lambda _m, _a, out, index=index: after(index, out)),
            )
            for handle in handles:
                hooks.callback(handle.remove)
        hooks.enter_context(watching(linears, lambda name, _args: called.append(name)))
        run_window(model, window)
    return seen


def require_equal_forward(
    model: nn.Module, blocks: Blocks, window: Tensor
) -> tuple[list[range], list[tuple | None], set[int]]:
    """Check on a short window [1, tokens] that the blocks run by hand give what the model's own do.

    Returns:
        runs of blocks between which the model does nothing of its own; what every block returns
        after the hidden states (None where it returns a tensor); which blocks call one of their
        linears more than once.

    Raises:
        PrunegridError: they do not.
    """
    own = observe(model, blocks, window)
    # Of another window, so that what depends on more than positions is found to be wrong.
    extras = [call.extras for call in observe(model, blocks, window.flip(1))]
    runs, fault = [], ""
    if len(own) != len(blocks.modules):
        fault = f"{len(blocks.modules)} blocks were called {len(own)} times"
    elif [call.index for call in own] != list(range(len(own))):
        fault = f"they run in the order {', '.join(blocks.names[call.index] for call in own)}"
    else:
        starts = [call.index for call in own if not call.handed_on]
        runs = [range(*ends) for ends in zip(starts, [*starts[1:], len(own)], strict=True)]
        fault = _fault_by_hand(model, blocks, window, runs, extras, own)
    if fault:
        raise PrunegridError(
            f"the blocks cannot be run one after another: {fault}",
            where=type(model).__name__,
            expected="blocks that pass nothing on but their hidden states and what depends on "
            "positions only",
            remedy="this architecture is not supported",
        )
    return runs, extras, {call.index for call in own if call.repeats}


def _fault_by_hand(
    model: nn.Module,
    blocks: Blocks,
    window: Tensor,
    runs: list[range],
    extras: list[tuple | None],
    own: list[Seen],
) -> str:
    """Return where the blocks run by hand are not what they are in the model; "" for nowhere."""
    hidden: Tensor | None = None
    for run in runs:
        hidden, calls = trace(model, blocks, window, run, hidden, extras)
        for index in run:
            before = hidden.clone()
            after = calls[index].run(blocks.modules[index], hidden)
            # NaN is no fault of this check: pruning names its linear and sample.
            if not torch.allclose(before, hidden, rtol=0, atol=0, equal_nan=True):
                return f"{blocks.names[index]} changes its input in place"
            if not torch.allclose(after, own[index].output, rtol=1e-3, atol=1e-5, equal_nan=True):
                return f"{blocks.names[index]} gives something else than inside the model"
            hidden = after
    return ""
