"""The learning rate over the steps of a run."""

from __future__ import annotations


def rate_factor(step: int, total: int, warmup: int, schedule: str) -> float:
    """Return the factor on the learning rate at a step: linear warm-up, then constant or linear."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    return max(0.0, (total - step) / max(1, total - warmup))
