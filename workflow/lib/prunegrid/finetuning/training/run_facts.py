"""The facts of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TrainFacts:
    """The facts of a training run, plain numbers, so that a checkpoint can hold them as JSON.

    Attributes:
        learning_rate: the largest one of the schedule.
        losses: mean loss (nats) over the scored tokens, for each optimizer step.
        rates: the learning rate of each step.
        tokens: tokens seen, without pads.
        pad_tokens: pads that were computed.
        scored_tokens: tokens with a loss.
        dev_losses: (steps done, mean loss on the development rows), the untouched weights first.
        seconds: wall time of the steps, without evaluations and checkpoints.
        dev_seconds: wall time of the evaluations on development rows.
        peak_memory_bytes: largest resident (CPU) or allocated (CUDA) memory.
        resumed_at: the steps after which the run was resumed from a checkpoint.
        diverged: how the run diverged, for a job that is run again; None if it did not.
        tries: the curves of each learning rate, if several were tried.
    """

    learning_rate: float = 0.0
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    tokens: int = 0
    pad_tokens: int = 0
    scored_tokens: int = 0
    dev_losses: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0
    dev_seconds: float = 0.0
    peak_memory_bytes: int = 0
    resumed_at: list[int] = field(default_factory=list)
    diverged: str | None = None
    tries: list[dict] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Return the number of optimizer steps that were made."""
        return len(self.losses)

    @property
    def best(self) -> tuple[int, float] | None:
        """Return (steps done, dev loss) of the best trained weights, the first of equals.

        The untouched weights do not count. Without trained ones that were evaluated, it is None.
        """
        trained = self.dev_losses[1:]
        if not trained:
            return None
        step, loss = min(trained, key=lambda entry: entry[1])
        return int(step), loss

    @property
    def kept_step(self) -> int:
        """Return the step whose weights are saved: the best by dev loss, else the last."""
        return self.best[0] if self.best else self.steps

    def worse_for(self) -> int:
        """Return how many evaluations in a row have not improved on the best one."""
        if self.best is None:
            return 0
        return sum(step > self.best[0] for step, _ in self.dev_losses)

    def curves(self) -> dict:
        """Return the facts that are written into the artifact: no times, which always differ."""
        return {
            "learning_rate": self.learning_rate,
            "steps": self.steps,
            "kept_step": self.kept_step,
            "tokens": self.tokens,
            "pad_tokens": self.pad_tokens,
            "scored_tokens": self.scored_tokens,
            "losses": self.losses,
            "rates": self.rates,
            "dev_losses": self.dev_losses,
            "dev_loss": self.best[1] if self.best else None,
        }
