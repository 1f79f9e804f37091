"""What the pruning methods know of a linear's input: mean squares by column, and the Hessian.

With X [n_tokens, d_in] the calibration inputs of a linear:
input norms = mean over tokens of x_j², float32 [d_in] (accumulated in float64);
Hessian = (2/n) XᵀX, float32 [d_in, d_in] (accumulated in float32, one triangle, mirrored once).
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError

# Columns a step of the triangular update; wider wastes work above the diagonal, narrower calls.
PANEL = 256
# Tokens whose squares are added up at once.
ROWS = 64


def is_finite(tensor: Tensor) -> bool:
    """Return whether a tensor holds neither NaN nor infinity, in one pass without a copy."""
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())


def _sum_of_squares(flat: Tensor) -> Tensor:
    """Return Σ x² over the tokens, [d_in], without a copy of all the squares."""
    sums = torch.zeros_like(flat[:ROWS])
    for start in range(0, len(flat), ROWS):
        rows = flat[start : start + ROWS]
        sums[: len(rows)].addcmul_(rows, rows)
    return sums.sum(0)


@dataclass
class InputStats:
    """Statistics of one linear's input; linears that share an input share the object.

    Attributes:
        tokens: how many tokens were seen.
        input_norms: float32 [d_in], mean over tokens of x_j².
        hessian: float32 [d_in, d_in], (2/n) XᵀX; None where it was not asked for.
    """

    tokens: int = 0
    input_norms: Tensor | None = None
    hessian: Tensor | None = None
    _memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return `make()`, computed at the first call with `key`, from these statistics only."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]


class Accumulator:
    """Adds up one input's statistics, sample after sample.

    Args:
        needs: "input_norms" or "hessian" (which brings the norms too).
        width: d_in.
        device: where the sums live.
    """

    def __init__(self, needs: str, width: int, device: torch.device | str = "cpu") -> None:
        self.needs, self.tokens = needs, 0
        self._squares = torch.zeros(width, dtype=torch.float64, device=device)
        self._gram = torch.zeros(width, width, device=device) if needs == "hessian" else None

    def add(self, inputs: Tensor, where: str) -> None:
        """Add a sample's inputs [..., d_in] of any float dtype.

        Raises:
            PrunegridError: they hold NaN or infinity.
        """
        flat = inputs.detach().reshape(-1, inputs.shape[-1]).float()
        squares = _sum_of_squares(flat)
        if not torch.isfinite(squares).all():
            raise PrunegridError(
                "NaN or infinite input activations",
                where=where,
                remedy="the model is broken or its dtype too narrow: check its weights, or load "
                "it in float32",
            )
        self.tokens += flat.shape[0]
        self._squares += squares
        if self._gram is not None:
            for start in range(0, flat.shape[1], PANEL):
                end = start + PANEL
                self._gram[start:end, :end].addmm_(flat[:, start:end].t(), flat[:, :end])

    def __add__(self, other: Accumulator) -> Accumulator:
        """Return a new accumulator of what both have seen."""
        both = Accumulator(self.needs, len(self._squares), self._squares.device)
        both.tokens = self.tokens + other.tokens
        both._squares = self._squares + other._squares
        if self._gram is not None:
            both._gram = self._gram + other._gram
        return both

    def finish(self) -> InputStats:
        """Return the statistics; the accumulator is spent."""
        norms = (self._squares / max(self.tokens, 1)).float()
        if self._gram is None:
            return InputStats(self.tokens, norms)
        gram, self._gram = self._gram.mul_(2 / max(self.tokens, 1)), None
        # By panels: five times as fast as to add a transposed triangle.
        for start in range(0, len(gram), PANEL):
            end = start + PANEL
            corner = gram[start:end, start:end].tril_()
            corner += corner.tril(-1).t()
            gram[start:end, end:] = gram[end:, start:end].t()
        return InputStats(self.tokens, norms, gram)


class AllSeen(Exception):
    """Every linear has its input: the rest of the forward pass is of no use."""


class Collector:
    """Statistics of the inputs of some linears while their model runs; a context manager.

    Linears that are called with the very same tensor (q, k and v; gate and up) share their sums.
    The first pass runs to its end and tells how often each is called. Where that is once, later
    passes end with `AllSeen` at the last of them. One that is called again in a pass (DeBERTa's q
    and k, for relative positions; a block that several layers share) is given all its calls.

    Args:
        linears: full name → module.
        needs: "input_norms" or "hessian".
        device: where the sums live.
    """

    def __init__(
        self, linears: Mapping[str, nn.Module], needs: str, device: torch.device | str = "cpu"
    ) -> None:
        self.linears, self.needs, self.device = linears, needs, device
        # By linear and number of its call in a pass; the leader is the first of those that share.
        self._sums: dict[tuple[str, int], Accumulator] = {}
        self._leader: dict[tuple[str, int], tuple[str, int]] = {}
        self._recent: deque[tuple[Tensor, tuple[str, int]]] = deque(maxlen=2)
        self._called: list[str] = []
        self._sample, self._whole = 0, False
        self._once: bool | None = None  # whether a pass calls each linear once; None: not known yet

    def __enter__(self) -> Collector:
        self._handles = [
            module.register_forward_pre_hook(functools.partial(self._see, name))
            for name, module in self.linears.items()
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def run(self, sample: int, forward: Callable[[], Any], *, whole: bool = False) -> Any:
        """Run one sample's `forward()` and add what the linears are given.

        Args:
            whole: run to the end and return what `forward` does, and not stop once all is seen.
        """
        self._sample, self._called, self._whole = sample, [], whole
        self._recent.clear()
        output = None
        with contextlib.suppress(AllSeen):
            output = forward()
        self._recent.clear()
        if self._once is None:
            self._once = sorted(self._called) == sorted(self.linears)
        return output

    def _see(self, name: str, module: nn.Module, args: tuple) -> None:
        inputs, call = args[0], (name, self._called.count(name))
        leader = next((who for seen, who in self._recent if seen is inputs), call)
        if self._leader.setdefault(call, leader) != leader:
            raise PrunegridError(
                "the linear shares its input in some samples and not in others", where=name
            )
        if leader == call:
            self._recent.append((inputs, call))
            if call not in self._sums:
                self._sums[call] = Accumulator(self.needs, inputs.shape[-1], self.device)
            self._sums[call].add(inputs, f"{name}, calibration sample {self._sample}")
        self._called.append(name)
        if self._once and not self._whole and len(self._called) == len(self.linears):
            raise AllSeen

    def finish(self) -> dict[str, InputStats]:
        """Return full name → statistics.

        Raises:
            PrunegridError: a linear was never called.
        """
        leaders: dict[str, tuple[tuple[str, int], ...]] = {}
        for name in self.linears:
            calls = sorted(call for call in self._leader if call[0] == name)
            if not calls:
                raise PrunegridError(
                    "no calibration sample reaches the linear",
                    where=name,
                    remedy="use more or longer samples, or a method that needs none",
                )
            leaders[name] = tuple(sorted(self._leader[call] for call in calls))
        done: dict[tuple[tuple[str, int], ...], InputStats] = {}
        # Those of several calls first: they are sums of others, which are spent by `finish`.
        for group in sorted(set(leaders.values()), key=len, reverse=True):
            done[group] = functools.reduce(operator.add, map(self._sums.get, group)).finish()
        return {name: done[leaders[name]] for name in self.linears}
