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

# Windows and their tokens that show a model's structure; few, as each costs some forward passes.
PROBES, PROBE_TOKENS = 2, 8
_CONSTANTS = (bool, int, float, str, bytes, type(None), torch.dtype, torch.device)


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


def split_call(args: tuple, kwargs: dict[str, Any]) -> tuple[Tensor, Call]:
    """Return the hidden states of a call of a block, or of a part of one, and the rest of it.

    Raises:
        PrunegridError: it is given none, neither first nor by their name.
    """
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

    def one(value: Any, other: Any) -> Any:
        return other if _equal(value, other) else value

    if len(call.args) != len(first.args):
        return call
    args = tuple(map(one, call.args, first.args))
    kwargs = {key: one(value, first.kwargs.get(key)) for key, value in call.kwargs.items()}
    return Call(args, kwargs, call.named)


def _equal(a: Any, b: Any) -> bool:
    """Return whether two values are equal and neither can change."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a is b or ((a.shape, a.dtype) == (b.shape, b.dtype) and torch.equal(a, b))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    return isinstance(a, _CONSTANTS) and a == b


@dataclass(frozen=True)
class _Seen:
    """One call of a block inside the model; `handed_on`: with the very output of the one before."""

    index: int
    handed_on: bool
    output: Tensor
    extras: tuple | None  # the whole output, None in place of its hidden states
    repeats: bool


class OwnForward:
    """A model's own forward, from which its blocks are called.

    Attributes:
        runs: first index → the blocks from there on between which the model does nothing of its
            own.
        repeating: indices of the blocks that call one of their linears more than once.

    Args:
        model: in eval mode.
        windows: int64 [samples, tokens], those that are to be traced.

    Raises:
        PrunegridError: run by hand on the first tokens of two windows, each block twice, the
            blocks do not give what they give inside the model.
    """

    def __init__(self, model: nn.Module, blocks: Blocks, windows: Tensor) -> None:
        self._model, self._blocks = model, blocks
        self._strays: set[str] = set()
        probes = windows[:PROBES, :PROBE_TOKENS]
        if len(probes) < PROBES:
            probes = torch.cat([probes, probes.flip(1)])
        probe = probes[:1]
        seen = self._observe(probe)
        # Of another window, so that what depends on more than positions is found to be wrong.
        self._extras = [call.extras for call in self._observe(probe.flip(1))]
        self.repeating = {call.index for call in seen if call.repeats}
        self.runs: dict[int, range] = {}
        if len(seen) != len(blocks.modules):
            fault = f"{len(blocks.modules)} blocks were called {len(seen)} times"
        elif [call.index for call in seen] != list(range(len(seen))):
            fault = f"they run in the order {', '.join(blocks.names[call.index] for call in seen)}"
        elif self._strays:
            fault = f"{', '.join(sorted(self._strays))} is called outside its block"
        else:
            starts = [call.index for call in seen if not call.handed_on]
            ends = [*starts[1:], len(seen)]
            self.runs = {start: range(start, end) for start, end in zip(starts, ends, strict=True)}
            fault = self._fault_by_hand(probes)
        if fault:
            raise PrunegridError(
                f"the blocks cannot be run one after another: {fault}",
                where=type(model).__name__,
                expected="blocks that pass nothing on but their hidden states and what depends on "
                "positions only",
                remedy="this architecture is not supported",
            )
        if any(isinstance(value, Tensor) for extras in self._extras for value in extras or ()):
            self._extras = [call.extras for call in self._observe(windows[:1])]

    def trace(
        self, window: Tensor, start: int, ended: Tensor | None
    ) -> tuple[Tensor, dict[int, Call]]:
        """Return what enters block `start`, and the calls of its run, without running any block.

        Args:
            window: int64 [1, tokens].
            ended: the output of the block before, [1, tokens, d]; None where there is none.
        """
        run = self.runs[start]
        calls: dict[int, Call] = {}
        entering: list[Tensor] = []

        def stand_in(index: int):
            def forward(*args: Any, **kwargs: Any) -> Tensor | tuple:
                hidden, call = split_call(args, kwargs)
                if index in run:
                    entering.append(hidden)
                    calls[index] = call
                    if len(calls) == len(run):
                        raise _Enough
                elif index + 1 == start:
                    hidden = ended
                extras = self._extras[index]
                return hidden if extras is None else _with_first(extras, hidden)

            return forward

        try:
            for index, block in enumerate(self._blocks.modules):
                block.forward = stand_in(index)
            with contextlib.suppress(_Enough):
                run_window(self._model, window)
        finally:
            for block in self._blocks.modules:
                block.__dict__.pop("forward", None)
        return entering[0], calls

    def _observe(self, window: Tensor) -> list[_Seen]:
        """Return every call of a block on a window [1, tokens], in their order.

        A linear that is called outside its block is noted in `_strays`.
        """
        seen: list[_Seen] = []
        handed_on, called, active = [False], [], [""]

        def before(index: int, args: tuple, kwargs: dict) -> None:
            called.clear()
            active[0] = self._blocks.names[index]
            handed_on[0] = bool(seen) and _equal(split_call(args, kwargs)[0], seen[-1].output)

        def after(index: int, output: Any) -> None:
            extras = _with_first(output, None) if isinstance(output, tuple) else None
            # A clone, in case that the model goes on in place.
            twice = len(set(called)) < len(called)
            seen.append(_Seen(index, handed_on[0], first_tensor(output).clone(), extras, twice))
            active[0] = ""

        def linear(name: str, _args: tuple) -> None:
            called.append(name)
            if name not in self._blocks.linears.get(active[0], ()):
                self._strays.add(name)

        twins = self._blocks.twins
        with contextlib.ExitStack() as hooks:
            for index, block in enumerate(self._blocks.modules):
                pre = block.register_forward_pre_hook(
                    lambda _m, args, kwargs, i=index: before(i, args, kwargs), with_kwargs=True
                )
                post = block.register_forward_hook(lambda _m, _a, out, i=index: after(i, out))
                hooks.callback(pre.remove)
                hooks.callback(post.remove)
            hooks.enter_context(watching(self._blocks.all_linears(), linear))
            others = {name: module for name, (_, module) in twins.items()}
            hooks.enter_context(watching(others, lambda n, args: linear(twins[n][0], args)))
            run_window(self._model, window)
        return seen

    def _fault_by_hand(self, windows: Tensor) -> str:
        """Return where the blocks run by hand differ from those in the model; "" for nowhere.

        Each block is run twice on each window, in turns: what a run leaves behind shows in the
        next one.
        """
        samples = range(len(windows))
        own = [self._observe(window[None]) for window in windows]
        hidden: list[Tensor | None] = [None for _ in samples]
        for start, run in self.runs.items():
            traced = [self.trace(windows[i][None], start, hidden[i]) for i in samples]
            hidden = [entering for entering, _ in traced]
            first = traced[0][1]
            calls = [{i: shared(c, first[i]) for i, c in found.items()} for _, found in traced]
            for index in run:
                outputs = []
                for sample in (*samples, *samples):
                    output, fault = self._by_hand(index, calls[sample][index], hidden[sample])
                    expected = own[sample][index].output
                    if fault or not _close(output, expected):
                        fault = fault or "gives something else than inside the model"
                        return f"{self._blocks.names[index]} {fault}"
                    outputs.append(output)
                hidden = outputs[len(samples) :]
        return ""

    def _by_hand(self, index: int, call: Call, hidden: Tensor) -> tuple[Tensor, str]:
        """Return a block's output on [1, tokens, d] hidden states, and what was wrong with it."""
        before = hidden.clone()
        try:
            output = call.run(self._blocks.modules[index], hidden)
        except Exception as error:  # whatever a block does not find that its model gives it
            return hidden, f"cannot be run by hand ({type(error).__name__}: {error})"
        changed = not torch.equal(before.nan_to_num(), hidden.nan_to_num())
        return output, "changes its input in place" if changed else ""


def _with_first(output: tuple, first: Tensor | None) -> tuple:
    """Return a tuple of the same class, with names where it has some, and another first item."""
    items = (first, *output[1:])
    return type(output)._make(items) if hasattr(output, "_make") else items


def _close(a: Tensor, b: Tensor) -> bool:
    # NaN is no fault of this check: pruning names its linear and sample.
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True)
