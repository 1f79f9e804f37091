"""The time that a work's arithmetic takes at the machine's own rate of matrix products.

Rates are measured at the very shapes; FLOPs are those that the work cannot do without: causal
attention counts the scores that are used, a Hessian one triangle, nothing element by element.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import subject
import torch

from prunegrid.pruning.fast_linear import FastLinear

TOKENS = subject.SAMPLES * subject.LENGTH
D, F = subject.HIDDEN, subject.FFN
# (d_in, d_out) of a block's linears, in the order in which they run.
SHAPES = [(D, D)] * 4 + [(D, F), (F, D)]
# Inputs that differ: q, k and v have one, then out, fc1, fc2.
INPUTS = [D, D, D, F]
STRIP = 128


@dataclass(frozen=True)
class Rates:
    """FLOP/s on one thread.

    Attributes:
        linear: (d_in, d_out) → x @ Wᵀ of one sample.
        gram: d → Xᵀ X of one sample.
        spread: (d_in, d_out) → errors of 128 columns of Wᵀ spread over the rest.
    """

    linear: dict[tuple[int, int], float]
    gram: dict[int, float]
    spread: dict[tuple[int, int], float]


def measured_rates() -> Rates:
    """Return the best rates of some tries: what the machine can do when it is left alone."""
    torch.set_num_threads(1)
    shapes, tokens = sorted(set(SHAPES)), subject.LENGTH
    linear, gram, spread = {}, {}, {}
    for d_in, d_out in shapes:
        x, weight = torch.randn(tokens, d_in), torch.randn(d_out, d_in)
        bias = torch.randn(d_out)

        def product(x=x, weight=weight, bias=bias) -> torch.Tensor:
            return torch.nn.functional.linear(x, weight, bias)

        flops = 2 * tokens * d_in * d_out
        linear[d_in, d_out] = _rate(product, flops)
        with torch.no_grad(), FastLinear():
            linear[d_in, d_out] = max(linear[d_in, d_out], _rate(product, flops))
        columns, errors = torch.randn(d_in, d_out), torch.randn(STRIP, d_out)
        factor = torch.randn(STRIP, d_in)
        spread[d_in, d_out] = _rate(
            lambda c=columns, f=factor, e=errors: c.addmm_(f.t(), e, alpha=-1e-9),
            2 * STRIP * d_in * d_out,
        )
        total = torch.zeros(d_in, d_in)
        gram[d_in] = _rate(
            lambda t=total, x=x: t.addmm_(x.t(), x, beta=0), 2 * tokens * d_in * d_in
        )
    return Rates(linear, gram, spread)


def _rate(run: Callable[[], object], flops: int) -> float:
    repeats = max(1, int(1e10 / flops))
    run()
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(repeats):
            run()
        best = min(best, (time.process_time() - began) / repeats)
    return flops / best


def floor_of(method: str, how: str, rates: Rates) -> float | None:
    """Return the fewest CPU seconds of a work, None where it is no matrix products.

    Args:
        method: "wanda", "sparsegpt" or "five" (`ours.FIVE`); others have none.
        how: "sequential", "single-pass" or "together".
        rates: of this machine.
    """
    if method in ("magnitude", "reconstruct"):
        return None
    forward, solving = _forward(rates, how == "sequential"), _solving(rates)
    if method == "wanda":
        return forward
    if method == "sparsegpt":
        return forward + solving
    return forward * (4 if how == "sequential" else 1) + solving


def _forward(rates: Rates, twice: bool) -> float:
    """Return the forward passes: all but the last linear of the last block, once or twice.

    Of two passes a block, the first (statistics) can stop before the block's last linear.
    """
    linear = [2 * TOKENS * i * o / rates.linear[i, o] for i, o in SHAPES]
    used = subject.LENGTH * (subject.LENGTH + 1) // 2
    attention = 4 * subject.SAMPLES * used * D / rates.linear[D, D]
    whole, short = sum(linear) + attention, sum(linear[:-1]) + attention
    if twice:
        return subject.BLOCKS * short + (subject.BLOCKS - 1) * whole
    return short + (subject.BLOCKS - 1) * whole


def _solving(rates: Rates) -> float:
    """Return Hessians (a triangle), their factors (Cholesky, inverse of a triangle) and sweeps."""
    hessians = sum(TOKENS * d * d / rates.gram[d] for d in INPUTS)
    factors = sum(2 / 3 * d**3 / rates.gram[d] for d in INPUTS)
    sweeps = sum(i * i * o / rates.spread[i, o] for i, o in SHAPES)
    return subject.BLOCKS * (hessians + factors + sweeps)
