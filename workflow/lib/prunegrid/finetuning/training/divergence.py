"""Stops a run that has diverged, before it spends its budget on a broken model.

Three signs, each of which no sound run shows:

1. The loss or the gradient's norm is not finite.
2. The mean loss of the last 5 steps is above twice the larger of chance (ln of the vocabulary,
   nats) and the first loss.
3. Each of the last 30 losses is above 1.5 times the first one, and more than half of the way from
   it to chance: the model has lost what it had, and stays there. A loss that falls slowly, or not
   at all, stays near its first value; and of 30 noisy batches one is easy again, as the first may
   have been.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NoReturn

from prunegrid.common.errors import PrunegridError

# Steps over which a loss far above chance, or one that has risen far, is called divergence.
WATCHED_STEPS = 5
RISEN_STEPS = 30


class Diverged(PrunegridError):
    """The loss of a run is not finite, or far above where it began."""


class Guard:
    """Watches the losses of one run.

    Args:
        vocabulary: size of it; ln of it is the loss of chance.
        rate: the learning rate, for the error.
        where: label of the step.
    """

    def __init__(self, vocabulary: int, rate: float, where: str) -> None:
        self.chance, self.rate, self.where = math.log(vocabulary), rate, where

    def check(self, losses: Sequence[float], norm: float = 0.0) -> None:
        """Check a run at its last step.

        Args:
            losses: of all steps (nats), the last one last.
            norm: of the last step's gradient.

        Raises:
            Diverged: it shows one of the signs above.
        """
        fault = self._fault(losses, norm)
        if fault:
            self._stop(len(losses), fault)

    def check_dev(self, steps: int, loss: float) -> None:
        """Check the development loss after some steps.

        Raises:
            Diverged: it is not finite.
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
