"""How a model uses its linears: whether a layer in a linear's place computes all that it does.

An adapter or packed weights take the place of a linear and answer its calls. They fail without a
word where the model reads the linear's weight itself (Mamba's kernels, a clamp in training), where
the linear computes something else than x Wᵀ + b, or where another layer has the same weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from prunegrid.common.errors import PrunegridError, explained
from prunegrid.models.blocks import is_transposed, oriented
from prunegrid.models.forward import device_of, embedding_rows, run_window

READ = "the model reads its weight without calling it"
SHARED = "another layer has the same weight"
PART = "it is a part of another layer's tensor"
OTHER = "it computes something else than x Wᵀ + b"
# Tokens of the pass that shows what is read, and the relative error that is rounding.
TOKENS, ROUNDING = 8, 1e-2


def irreplaceable(
    model: nn.Module, linears: Mapping[str, nn.Module], *, training: bool
) -> dict[str, str]:
    """Return {linear: why no other layer can stand in its place}.

    Reads are those of a forward pass over a few tokens in eval mode; a linear that the pass does
    not reach (an expert without tokens) counts as one that is called.

    Args:
        model: plain, on its device; it keeps its mode.
        linears: by full name.
        training: look at a pass in training mode too.
    """
    held = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    places = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    layers = {name: linear for name, linear in linears.items() if isinstance(linear, nn.Module)}
    reasons = dict.fromkeys(linears.keys() - layers.keys(), PART)
    for name, linear in layers.items():
        if held[id(linear.weight)] > 1 or places[id(linear)] > 1:
            reasons[name] = SHARED
        elif not _is_plain(linear):
            reasons[name] = OTHER
    found = dict.fromkeys(_read(model, layers, training), READ) | reasons
    return {name: found[name] for name in linears if name in found}


def listing(reasons: Mapping[str, str]) -> str:
    """Return a sentence's list of linears and reasons, at most three by name."""
    shown = [f"{name} ({reason})" for name, reason in list(reasons.items())[:3]]
    more = len(reasons) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _is_plain(linear: nn.Module) -> bool:
    """Return whether a linear computes x Wᵀ + b; of a class of its own this is tried."""
    if type(linear) is nn.Linear or is_transposed(linear):
        return True
    weight, bias = oriented(linear), linear.bias
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, weight.shape[1], generator=draw).to(weight.device, weight.dtype)
    with torch.no_grad():
        try:
            found = linear(x)
        except Exception:  # it takes other inputs than a linear does
            return False
        wanted = F.linear(x, weight, bias)
    if not isinstance(found, Tensor) or found.shape != wanted.shape:
        return False
    limit = ROUNDING * float(wanted.abs().max())
    return float((found.float() - wanted.float()).abs().max()) <= limit


class _Reads(TorchDispatchMode):
    """The linears whose weights an operation is given while none of their forwards runs."""

    def __init__(self, linears: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.names: set[str] = set()
        self._inside: Counter[int] = Counter()
        self._owners: dict[int, list[str]] = {}
        self._hooks = []
        for name, linear in linears.items():
            place = _place(linear.weight)
            self._owners.setdefault(place, []).append(name)
            self._hooks += [
                linear.register_forward_pre_hook(lambda *_, p=place: self._inside.update([p])),
                linear.register_forward_hook(lambda *_, p=place: self._inside.subtract([p])),
            ]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs or {})):
            if isinstance(leaf, Tensor) and not self._inside[place := _place(leaf)]:
                self.names.update(self._owners.get(place, ()))
        return func(*args, **(kwargs or {}))

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self._hooks:
            hook.remove()


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _read(model: nn.Module, linears: Mapping[str, nn.Module], training: bool) -> Iterator[str]:
    """Yield the linears whose weights are read beside their own forward, in their order."""
    rows = embedding_rows(model)
    window = torch.arange(1, TOKENS + 1, device=device_of(model))[None] % rows
    before, mode = model.training, _Reads(linears)
    devices = [window.device] if window.device.type == "cuda" else []
    stuck = PrunegridError(
        f"the model cannot run on {TOKENS} tokens",
        where=type(model).__name__,
        expected="an architecture that takes rows of any length, in training too",
        remedy="this architecture is not supported by adapters and packed weights",
    )
    try:
        with explained(stuck), torch.random.fork_rng(devices=devices), torch.no_grad(), mode:
            for trains in (True, False) if training else (False,):
                run_window(model.train(trains), window)
    finally:
        model.train(before)
    yield from (name for name in linears if name in mode.names)
