"""Fitting of one part of a block to the dense model's outputs, by Adam under the mask.

With x the part's inputs in the dense model, x̂ those in the model refitted so far, f the part and M
the mask:

    min over the kept weights of  Σ ‖f(x̂; W∘M) - f_dense(x)‖² / Σ ‖f_dense(x)‖²

The quotient does not move the minimum: it makes Adam's ε and the errors of all parts alike. The
learning rate falls linearly to 0 over all steps. After each epoch the error is measured on windows
that are never trained on. The epoch with the lowest is kept, "no change" among them, so this error
never rises.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from prunegrid.finetuning.training.divergence import Diverged

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """A part that is to be fitted.

    Attributes:
        name: of the part, for errors.
        weights: the parameters that its linears are in, by name; float32.
        kept: bool, as each parameter: True where it may change.
        run: gives the part's output for a window, in the graph of its weights.
        targets: the dense part's outputs by window, [1, tokens, d].
        train, held: numbers of the windows to train on, and of those that only measure.
        dtype: that the weights will be stored in: errors are measured in it.
    """

    name: str
    weights: Mapping[str, nn.Parameter]
    kept: Mapping[str, Tensor]
    run: Callable[[int], Tensor]
    targets: Sequence[Tensor]
    train: Sequence[int]
    held: Sequence[int]
    dtype: torch.dtype = torch.float32

    def error(self) -> float:
        """Return the relative squared error on the held-out windows."""
        wrong = total = 0.0
        with torch.no_grad():
            for window in self.held:
                target = self.targets[window].float()
                wrong += float((self.run(window).float() - target).square().sum())
                total += float(target.square().sum())
        return wrong / total if total else wrong

    def scale(self) -> float:
        """Return ‖f_dense(x)‖² of a mean training window; 1 where all of it is 0."""
        total = sum(float(self.targets[window].float().square().sum()) for window in self.train)
        return total / len(self.train) or 1.0

    def snapshot(self) -> dict[str, Tensor]:
        """Return copies of the weights."""
        return {name: weight.detach().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def restore(self, copies: Mapping[str, Tensor]) -> None:
        """Set the weights to copies of them."""
        for name, weight in self.weights.items():
            weight.copy_(copies[name])

    @torch.no_grad()
    def round(self) -> None:
        """Round the weights to the dtype that they will be stored in."""
        for weight in self.weights.values():
            weight.copy_(weight.to(self.dtype))


@dataclass
class Run:
    """One run at one learning rate.

    Attributes:
        rate: the first, and largest, learning rate.
        errors: relative squared error on the held-out windows after each epoch.
        best: the weights of the epoch with the lowest; None if none is below the start.
        diverged: whether a loss or an error was not finite, which ended it.
    """

    rate: float
    errors: list[float] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    diverged: bool = False

    def lowest(self) -> float:
        """Return the lowest error of its epochs."""
        return min(self.finite())

    def finite(self) -> list[float]:
        """Return its errors without what is not finite, which JSON lacks."""
        return [error for error in self.errors if math.isfinite(error)]


def fit(
    problem: Problem,
    rates: Sequence[float],
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    every: bool,
) -> tuple[list[Run], float]:
    """Fit a part in place; return its runs and the error before them.

    A part without error (its model was not pruned) has no run.

    Args:
        rates: learning rates to try, each from the same weights.
        epochs: passes over the windows.
        batch_size: windows of a step.
        seed: of the order of windows, which is the same at each rate.
        every: try each rate and keep the best; else the first that does not diverge.

    Raises:
        Diverged: the loss is not finite at any rate. The weights are those from before.
    """
    before, start = problem.error(), problem.snapshot()
    if not math.isfinite(before):
        raise _diverged(problem.name, "its error is not finite before any step", [])
    runs: list[Run] = []
    for rate in rates if before else ():
        runs.append(_run(problem, rate, start, before, epochs, batch_size, seed))
        problem.restore(start)
        if runs[-1].diverged:
            log.warning("%s: learning rate %g is out: its loss is not finite", problem.name, rate)
        elif not every:
            break
    sound = [run for run in runs if not run.diverged]
    if runs and not sound:
        raise _diverged(problem.name, "its loss is not finite", [run.rate for run in runs])
    better = [run for run in sound if run.best is not None]
    if better:
        problem.restore(min(better, key=Run.lowest).best)
    return runs, before


def _diverged(name: str, fault: str, rates: Sequence[float]) -> Diverged:
    tried = ", ".join(f"{rate:g}" for rate in rates)
    return Diverged(
        f"reconstruction diverged{f' at learning rate {tried}' if rates else ''}: {fault}",
        where=name,
        expected="a finite, falling error",
        remedy=f"lower finetune.learning_rates (now {tried})"
        if rates
        else "the pruned model is broken: check its weights",
    )


class _Masks:
    """The masks of a part's gradients and weights, as factors: a product by a bool is slow.

    A gradient of 0 leaves a weight as it is. The weights' mask is for what began as 0; other places
    that may not change (experts that were left dense) keep their value.
    """

    def __init__(self, problem: Problem, start: Mapping[str, Tensor]) -> None:
        self._weights = list(problem.weights.values())
        kept = [problem.kept[name] for name in problem.weights]
        begun = [start[name] != 0 for name in problem.weights]
        self._moves = [mask.float() for mask in kept]
        self._stays = [(mask | place).float() for mask, place in zip(kept, begun, strict=True)]

    def apply_to_gradients(self) -> None:
        for weight, factor in zip(self._weights, self._moves, strict=True):
            if weight.grad is not None:
                weight.grad.mul_(factor)

    @torch.no_grad()
    def apply_to_weights(self) -> None:
        for weight, factor in zip(self._weights, self._stays, strict=True):
            weight.mul_(factor)


@torch.enable_grad()
def _run(
    problem: Problem,
    rate: float,
    start: Mapping[str, Tensor],
    before: float,
    epochs: int,
    batch_size: int,
    seed: int,
) -> Run:
    """Return a run that begins with the weights as they are."""
    draw = torch.Generator().manual_seed(seed)
    weights = list(problem.weights.values())
    for weight in weights:
        weight.requires_grad_(True)
    optimizer = torch.optim.Adam(weights, lr=rate, fused=True)
    steps = epochs * math.ceil(len(problem.train) / batch_size)
    fading = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    masks = _Masks(problem, start)
    run, lowest, scale = Run(rate), before, problem.scale()
    for _ in range(epochs):
        order = torch.randperm(len(problem.train), generator=draw).tolist()
        for first in range(0, len(order), batch_size):
            batch = [problem.train[place] for place in order[first : first + batch_size]]
            run.diverged = not _step(problem, optimizer, masks, batch, scale)
            if run.diverged:
                break
            fading.step()
        if not run.diverged:
            exact = problem.snapshot()
            problem.round()
            run.errors.append(problem.error())
            run.diverged = not math.isfinite(run.errors[-1])
        if run.diverged:
            break
        if run.errors[-1] < lowest:
            lowest, run.best = run.errors[-1], problem.snapshot()
        problem.restore(exact)
    for weight in weights:
        weight.requires_grad_(False).grad = None
    return run


def _step(
    problem: Problem,
    optimizer: torch.optim.Optimizer,
    masks: _Masks,
    batch: Sequence[int],
    scale: float,
) -> bool:
    """Make one step on a batch of windows; return whether its loss is finite, else make none."""
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for window in batch:
        target = problem.targets[window].float()
        loss = (problem.run(window).float() - target).square().sum() / (scale * len(batch))
        loss.backward()
        total += float(loss.detach())
    if not math.isfinite(total):
        return False
    masks.apply_to_gradients()
    optimizer.step()
    masks.apply_to_weights()
    return True
