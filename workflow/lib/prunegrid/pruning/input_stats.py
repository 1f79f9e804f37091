"""Statistics of a linear's input: mean squares, means and variances by column, and the Hessian.

With X [n_tokens, d_in] the calibration inputs of a linear:
input norms = mean over tokens of x_j², float32 [d_in] (accumulated in float64);
moments = mean and variance over tokens of x_j (`prunegrid.pruning.input_moments`);
Hessian = (2/n) XᵀX, float32 [d_in, d_in] (accumulated in float32, one triangle, mirrored once).
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import oriented
from prunegrid.models.experts import ExpertLinear
from prunegrid.pruning.expert_inputs import watching_experts
from prunegrid.pruning.input_moments import Moments, sum_of_squares

# Columns per step of the triangular update: wider wastes work above the diagonal, narrower calls.
PANEL = 256


def is_finite(tensor: Tensor) -> bool:
    """Return whether a tensor holds neither NaN nor infinity, in one pass without a copy."""
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())


def activations_error(where: str) -> PrunegridError:
    """Return the error of a model whose activations are NaN or infinite."""
    return PrunegridError(
        "NaN or infinite activations",
        where=where,
        remedy="the model is broken or its dtype too narrow: check its weights, or load it in "
        "float32",
    )


@dataclass
class InputStats:
    """The statistics of one linear's input; linears that share an input share the object.

    Attributes:
        tokens: how many tokens they are taken over; None where that is not known.
        input_norms: float32 [d_in], mean over tokens of x_j².
        hessian: float32 [d_in, d_in], (2/n) XᵀX; None where it is not needed.
        input_means, input_variances: float32 [d_in], of x_j over tokens; None where they are not
            needed.
    """

    tokens: int | None = None
    input_norms: Tensor | None = None
    hessian: Tensor | None = None
    input_means: Tensor | None = None
    input_variances: Tensor | None = None
    _memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def unit(cls, linear: nn.Module | ExpertLinear, needs: str) -> InputStats:
        """Return what stands for the inputs of a linear that no token reached: all count alike."""
        weight = oriented(linear)
        ones = torch.ones(weight.shape[1], device=weight.device)
        hessian = torch.diag(ones) if "hessian" in needs else None
        return cls(0, ones, hessian, torch.zeros_like(ones), ones.clone())

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return `make()`, which depends on these statistics alone; compute it once for a key."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]


class Accumulator:
    """Adds up the statistics of one input [n_tokens, width], sample after sample.

    Args:
        needs: "input_norms", "input_moments" for means and variances too, "hessian" for norms and
            it, "hessian_and_moments" for all. Without need moments are left out: on narrow models
            they add a tenth to a pass.
        device: where the sums live.
    """

    def __init__(self, needs: str, width: int, device: torch.device | str = "cpu") -> None:
        self.needs, self.tokens = needs, 0
        self._squares = torch.zeros(width, dtype=torch.float64, device=device)
        self._moments = Moments(width, device) if "moments" in needs else None
        self._gram = torch.zeros(width, width, device=device) if "hessian" in needs else None

    def add(self, inputs: Tensor, where: str) -> None:
        """Add a sample's inputs [..., d_in] of any float dtype.

        Raises:
            PrunegridError: they hold NaN or infinity.
        """
        flat = inputs.detach().reshape(-1, inputs.shape[-1]).float()
        squares = sum_of_squares(flat)
        if not torch.isfinite(squares).all():
            raise activations_error(where)
        self.tokens += flat.shape[0]
        self._squares += squares
        if self._moments is not None:
            self._moments.add(flat)
        if self._gram is not None:
            for start in range(0, flat.shape[1], PANEL):
                end = start + PANEL
                self._gram[start:end, :end].addmm_(flat[:, start:end].t(), flat[:, :end])

    def __add__(self, other: Accumulator) -> Accumulator:
        """Return a new accumulator over the tokens of both."""
        both = Accumulator(self.needs, len(self._squares), self._squares.device)
        both.tokens = self.tokens + other.tokens
        both._squares = self._squares + other._squares
        if self._moments is not None:
            for part in (self._moments, other._moments):
                both._moments.merge(part.tokens, part.mean, part.squares)
        if self._gram is not None:
            both._gram = self._gram + other._gram
        return both

    def finish(self) -> InputStats:
        """Return the statistics; the accumulator is spent."""
        norms = (self._squares / max(self.tokens, 1)).float()
        moments: tuple[Tensor, ...] = ()
        if self._moments is not None:
            moments = (self._moments.mean.float(), self._moments.variance())
        if self._gram is None:
            return InputStats(self.tokens, norms, None, *moments)
        gram, self._gram = self._gram.mul_(2 / max(self.tokens, 1)), None
        # By panels: five times as fast as to add a transposed triangle.
        for start in range(0, len(gram), PANEL):
            end = start + PANEL
            corner = gram[start:end, start:end].tril_()
            corner += corner.tril(-1).t()
            gram[start:end, end:] = gram[end:, start:end].t()
        return InputStats(self.tokens, norms, gram, *moments)


class AllSeen(Exception):
    """Every linear has its input: the rest of the forward pass is of no use."""


@contextlib.contextmanager
def watching(modules: Mapping[str, nn.Module], see: Callable[[str, tuple], None]) -> Iterator[None]:
    """Call `see(name, args)` before each call of a module, inside the context.

    Of fused experts, before each product with an expert's matrix. A `see` that raises `AllSeen`
    ends the context.
    """
    experts = {name: m for name, m in modules.items() if isinstance(m, ExpertLinear)}
    handles = [
        module.register_forward_pre_hook(lambda _module, args, name=name: see(name, args))
        for name, module in modules.items()
        if name not in experts
    ]
    try:
        with contextlib.suppress(AllSeen), watching_experts(experts, see):
            yield
    finally:
        for handle in handles:
            handle.remove()


# Name → (name of the linear that holds the very same weight, module): `models.blocks.Blocks.twins`.
Twins = Mapping[str, tuple[str, nn.Module]]
NO_TWINS: Twins = {}


def unreached(
    linears: Mapping[str, nn.Module],
    samples: Iterable[Any],
    forward: Callable[[Any], Any],
    twins: Twins = NO_TWINS,
) -> list[str]:
    """Return the names of the linears that `forward` calls for none of the samples.

    It is given no further sample once all have been called, themselves or a twin.
    """
    waiting = set(linears)

    def see(name: str, _args: tuple) -> None:
        waiting.discard(twins[name][0] if name in twins else name)
        if not waiting:
            raise AllSeen

    with watching({**linears, **{name: module for name, (_, module) in twins.items()}}, see):
        for sample in samples:
            forward(sample)
    return [name for name in linears if name in waiting]


def collect(
    linears: Mapping[str, nn.Module],
    needs: str,
    device: torch.device | str,
    samples: Iterable[int],
    forward: Callable[[int], Any],
    take: Callable[[int, Any], None] | None = None,
    twins: Twins = NO_TWINS,
) -> dict[str, InputStats]:
    """Return full name → statistics of a linear's inputs over all samples, of those reached.

    Linears that are called with the very same tensor (q, k and v; gate and up) share the object.
    The first pass runs to its end and tells how often each is called. If a linear is called again
    in a pass (DeBERTa's q and k, a block that several layers share), all its inputs count. An
    expert that no token reaches has those of `InputStats.unit`.

    Args:
        needs: see `Accumulator`.
        forward: runs a sample through the linears.
        take: is given each sample and what `forward` returns; None ends each pass at its last
            linear.
        twins: of the linears: their inputs count too.

    Raises:
        PrunegridError: activations are not finite, or a linear shares its input in some samples
            only.
    """
    collector = _Collector(linears, needs, device, twins)
    for sample in samples:
        output = collector.run(sample, forward, stop=take is None)
        if take is not None:
            take(sample, output)
    return collector.finish()


class _Collector:
    """Adds up the inputs of some linears, those that share an input together."""

    def __init__(
        self,
        linears: Mapping[str, nn.Module],
        needs: str,
        device: torch.device | str,
        twins: Twins,
    ) -> None:
        self._linears, self._needs, self._device = linears, needs, device
        self._firsts = {twin: first for twin, (first, _) in twins.items()}
        self._watched = {**linears, **{twin: module for twin, (_, module) in twins.items()}}
        # By linear and number of its call in a pass; the leader is the first of those that share.
        self._sums: dict[tuple[str, int], Accumulator] = {}
        self._leader: dict[tuple[str, int], tuple[str, int]] = {}
        self._recent: deque[tuple[Tensor, tuple[str, int]]] = deque(maxlen=2)
        self._once: bool | None = None  # whether a pass calls each linear once; None: not known yet

    def run(self, sample: int, forward: Callable[[int], Any], *, stop: bool) -> Any:
        """Return what `forward` does with the sample; None if `stop` ends it at the last linear."""
        self._sample, self._stop, self._called = sample, stop, Counter()
        output = None
        with watching(self._watched, self._see):
            output = forward(sample)
        self._recent.clear()
        if self._once is None:
            self._once = self._called == Counter(self._linears)
        return output

    def _see(self, name: str, args: tuple) -> None:
        name = self._firsts.get(name, name)
        inputs, call = args[0], (name, self._called[name])
        leader = next((first for seen, first in self._recent if seen is inputs), call)
        if self._leader.setdefault(call, leader) != leader:
            raise PrunegridError(
                "the linear shares its input in some samples and not in others", where=name
            )
        if leader == call:
            self._recent.append((inputs, call))
            if call not in self._sums:
                self._sums[call] = Accumulator(self._needs, inputs.shape[-1], self._device)
            self._sums[call].add(inputs, f"{name}, calibration sample {self._sample}")
        self._called[name] += 1
        if self._once and self._stop and self._called.total() == len(self._linears):
            raise AllSeen

    def finish(self) -> dict[str, InputStats]:
        """Return full name → statistics; the sums are spent."""
        calls: dict[str, list[tuple[str, int]]] = {}
        for (name, _), leader in self._leader.items():
            calls.setdefault(name, []).append(leader)
        leaders = {name: tuple(sorted(found)) for name, found in calls.items()}
        stats: dict[tuple[tuple[str, int], ...], InputStats] = {}
        # Those of several calls first: they are sums of others, which are spent by `finish`.
        for group in sorted(set(leaders.values()), key=len, reverse=True):
            stats[group] = functools.reduce(operator.add, map(self._sums.get, group)).finish()
        return {
            name: stats[leaders[name]] if name in leaders else InputStats.unit(linear, self._needs)
            for name, linear in self._linears.items()
            if name in leaders or isinstance(linear, ExpertLinear)
        }
