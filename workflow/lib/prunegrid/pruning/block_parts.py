"""The parts of a block that are refitted one after another: attention, then the MLP.

Parts are found by structure, never by a model's name. A part is a child of the block that is called
once a pass, with hidden states, and gives hidden states for the same tokens. It holds at least two
prunable linears: a single one has no nonlinearity inside. Lists of modules are looked into (T5's
`layer`). All linears in no such child (OPT's fc1 and fc2, BERT's intermediate and output) are one
last part, REST, whose function is the whole block's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import first_tensor
from prunegrid.pruning.block_calls import Call, split_call
from prunegrid.pruning.input_stats import AllSeen
from prunegrid.pruning.replay import Replay

REST = "rest"


@dataclass(frozen=True)
class Part:
    """A part of a block.

    Attributes:
        name: the full name of its module; of the last part the block's with `.rest`.
        path: of its module inside the block; "" for the block itself.
        linears: full names of the prunable linears that are refitted with it.
    """

    name: str
    path: str
    linears: tuple[str, ...]

    def module(self, block: nn.Module) -> nn.Module:
        """Return the module that computes it, in a block of either model."""
        return block.get_submodule(self.path)


def parts_of(replay: Replay, index: int) -> list[Part]:
    """Return the parts of block `index`, in the order in which they run; [] without linears."""
    block, prefix = replay.blocks.modules[index], f"{replay.blocks.names[index]}."
    linears = replay.linears(index)
    held: dict[str, list[str]] = {}
    for name in linears:
        held.setdefault(_child(block, name.removeprefix(prefix)), []).append(name)
    for twin, (first, _) in replay.blocks.twins.items():
        # A weight that two children share belongs to neither.
        child = _child(block, first.removeprefix(prefix)) if first in linears else ""
        if child and _child(block, twin.removeprefix(prefix)) != child:
            held[child].remove(first)
    found = {child: names for child, names in held.items() if child and len(names) > 1}
    modules = {child: block.get_submodule(child) for child in found}
    called = _called_once(modules, lambda: replay.run(index, 0), replay.hidden[0])
    parts = [Part(f"{prefix}{child}", child, tuple(found[child])) for child in called]
    known = {name for part in parts for name in part.linears}
    if rest := tuple(name for name in linears if name not in known):
        parts.append(Part(f"{prefix}{REST}" if parts else prefix[:-1], "", rest))
    return parts


def whole(replay: Replay, index: int) -> list[Part]:
    """Return block `index` as one part; [] without linears."""
    linears = tuple(replay.linears(index))
    return [Part(replay.blocks.names[index], "", linears)] if linears else []


def _child(block: nn.Module, path: str) -> str:
    """Return the name in a block of the first module on a path that can be called; "" for none."""
    module: Any = block
    steps = path.split(".")
    for depth, step in enumerate(steps, start=1):
        module = getattr(module, step)
        if not isinstance(module, nn.Module):
            return ""
        if not isinstance(module, (nn.ModuleList, nn.ModuleDict)):
            return ".".join(steps[:depth])
    return ""


def _called_once(
    modules: Mapping[str, nn.Module], forward: Callable[[], Any], hidden: Tensor
) -> list[str]:
    """Return the names of the modules that take and give hidden states once, in call order."""
    fits: dict[str, list[bool]] = {}

    def see(name: str, args: tuple, kwargs: dict, output: Any) -> None:
        ok = False
        with contextlib.suppress(PrunegridError):
            given, taken = first_tensor(output), split_call(args, kwargs)[0]
            ok = isinstance(taken, Tensor)
            ok = ok and given.shape[:-1] == taken.shape[:-1] == hidden.shape[:-1]
        fits.setdefault(name, []).append(ok)

    with _hooked(modules, see):
        forward()
    return [name for name, calls in fits.items() if calls == [True]]


@contextlib.contextmanager
def _hooked(
    modules: Mapping[str, nn.Module], see: Callable[[str, tuple, dict, Any], None]
) -> Iterator[None]:
    """Call `see(name, args, kwargs, output)` after each call of a module, inside the context."""
    handles = [
        module.register_forward_hook(
            lambda _m, args, kwargs, output, name=name: see(name, args, kwargs, output),
            with_kwargs=True,
        )
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def call_of(module: nn.Module, forward: Callable[[], Any]) -> tuple[Tensor, Call]:
    """Return the hidden states of a module's first call in `forward()`, and the rest of the call.

    The pass ends there.
    """
    found: list[tuple[Tensor, Call]] = []

    def see(_module: nn.Module, args: tuple, kwargs: dict) -> None:
        found.append(split_call(args, kwargs))
        raise AllSeen

    handle = module.register_forward_pre_hook(see, with_kwargs=True)
    try:
        with contextlib.suppress(AllSeen):
            forward()
    finally:
        handle.remove()
    return found[0]


def outputs_of(
    modules: Mapping[str, nn.Module], forward: Callable[[], Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what `forward()` gives, and the hidden states that each module gives in it."""
    found: dict[str, Tensor] = {}

    def see(name: str, _args: tuple, _kwargs: dict, output: Any) -> None:
        # A clone, in case that the block goes on in place.
        found[name] = first_tensor(output).clone()

    with _hooked(modules, see):
        result = forward()
    return result, found
