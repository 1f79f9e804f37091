"""The check that ends a diverged run, before it spends its budget on a broken model.

A run has diverged if it shows one of three signs, which no sound run shows:

1. The loss or the gradient's norm is not finite.
2. The mean loss of the last 5 steps is above twice the larger of chance (ln of the vocabulary,
   nats) and the first loss.
3. Each of the last 30 losses is above 1.5 times the first one, and above the mean of it and chance.
   A loss that falls slowly, or not at all, stays near its first value. If the first batch happened
   to be an easy one, so is one of the 30.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NoReturn

from prunegrid.common.errors import PrunegridError

WATCHED_STEPS = 5  # of sign 2
RISEN_STEPS = 30  # of sign 3


class Diverged(PrunegridError):
    """A run has diverged: its loss is not finite, or far above the first one."""


class Guard:
    """A check of the losses of one run.

    Args:
        vocabulary: number of tokens; its ln is the loss of chance (nats).
        rate: the learning rate, for the error.
        where: label of the step.
    """

    def __init__(self, vocabulary: int, rate: float, where: str) -> None:
        self.chance, self.rate, self.where = math.log(vocabulary), rate, where

    def check(self, losses: Sequence[float], norm: float = 0.0) -> None:
        """Check that a run has not diverged at its last step.

        Args:
            losses: of all steps so far (nats), in order.
            norm: of the last step's gradient.

        Raises:
            Diverged: the run shows one of the signs above.
        """
        fault = self._fault(losses, norm)
        if fault:
            self._stop(len(losses), fault)

    def check_dev(self, steps: int, loss: float) -> None:
        """Check that the development loss after `steps` steps is finite.

        Raises:
            Diverged: it is not.
        """
        if not math.isfinite(loss):
            self._stop(steps, f"a development loss of {loss}")

    def _stop(self, step: int, fault: str) -> NoReturn:
        raise Diverged(
            f"training diverged at step {step}: {fault}",
            where=self.where,
            expected="a finite, falling loss",
            remedy=f"lower finetune.learning_rate (now {self.rate}) or max_grad_norm",
        )

    def _fault(self, losses: Sequence[float], norm: float) -> str:
        """Return the sign of divergence that a run shows, "" if it shows none."""
        first = losses[0]
        if not (math.isfinite(losses[-1]) and math.isfinite(norm)):
            return f"loss {losses[-1]} and gradient norm {norm}"
        chance = f"(chance {self.chance:.2f}, the first {first:.2f})"
        mean = sum(losses[-WATCHED_STEPS:]) / WATCHED_STEPS
        if len(losses) >= WATCHED_STEPS and mean > 2 * max(self.chance, first):
            return f"a mean loss of {mean:.2f} over {WATCHED_STEPS} steps {chance}"
        lowest = min(losses[-RISEN_STEPS:])
        bound = max(1.5 * first, (first + self.chance) / 2)
        if len(losses) > RISEN_STEPS and lowest > bound:
            return f"{RISEN_STEPS} losses in a row that rose to {lowest:.2f} and above {chance}"
        return ""
