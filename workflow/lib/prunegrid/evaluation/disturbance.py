"""Signs that a timing was disturbed: counts as shares of the clock (docs/reference/sizes.md).

Each share is judged over each half of the rounds and over the turns of each model: a neighbour who
comes for a part of the run, or meets one model alone, is diluted by the rest of it.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterator, Sequence

from prunegrid.evaluation.speed import Turn, of_model, quartiles

# Shares of the clock in which this process did not run, in which other processes had the CPUs that
# it may use, and in which other machines had them.
WAITED, OTHERS, STOLEN = 0.10, 0.10, 0.02
# The middle half of a model's turns, over their median.
SCATTER = 0.20
# A model's median turn in the second half of the rounds, over that in the first; fewer rounds have
# no halves.
DRIFT, HALVES = 0.10, 4
# Seconds by which a counter may be off at each end.
TICK = 1 / (os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100)


def reasons(
    turns: Sequence[Turn], capacity: int, device: str, quota: float = math.inf
) -> list[str]:
    """Return why a timing is not to be believed; [] where nothing disturbed it.

    On CUDA the CPU only hands out work, so its waits and its other processes say nothing.

    Args:
        turns: of all models.
        capacity: CPUs that the process may use.
        quota: CPUs that its cgroups may use at a time.
    """
    listed = [*_scattered(turns), *_drifted(turns)]
    parts = [turns, *_halves(turns), *(of_model(turns, name) for name in _names(turns))]
    on_cpu = not device.startswith("cuda")
    found = [max(shares) for shares in zip(*(_shares(p, capacity) for p in parts), strict=True)]
    texts = (
        (WAITED, on_cpu, "the process waited for a CPU in {:.0%} of the time"),
        (OTHERS, on_cpu, "other processes took {:.0%} of the CPUs"),
        (STOLEN, True, "other virtual machines took {:.0%} of the CPUs"),
    )
    for share, (bound, judged, text) in zip(found, texts, strict=True):
        if judged and share > bound:
            listed.append(text.format(share))
    if throttled := sum(turn.throttled or 0 for turn in turns):
        listed.append(f"a cgroup's quota stopped the process {throttled} times")
    if on_cpu and quota < 1:
        listed.append(f"a cgroup lets the process use {quota:.2g} of a CPU")
    return listed


def _shares(turns: Sequence[Turn], capacity: int) -> tuple[float, float, float]:
    """Return the shares of the clock: waited, others and stolen, each less what ticks may be off.

    The latter two are shares of all CPUs that the process may use.
    """
    clock = sum(turn.clock for turn in turns)
    waited = clock - sum(turn.cpu for turn in turns)
    others, stolen = (
        sum(getattr(turn, fact) or 0 for turn in turns) - 2 * TICK * capacity
        for fact in ("others", "stolen")
    )
    total = capacity * clock
    return waited / clock, others / total, stolen / total


def _names(turns: Sequence[Turn]) -> list[str]:
    return list(dict.fromkeys(turn.model for turn in turns))


def _halves(turns: Sequence[Turn]) -> list[list[Turn]]:
    """Return the turns of the first and of the last half of the rounds; [] of too few."""
    rounds = sorted({turn.round for turn in turns})
    if len(rounds) < HALVES:
        return []
    size = len(rounds) // 2
    return [[t for t in turns if t.round in half] for half in (rounds[:size], rounds[-size:])]


def _scattered(turns: Sequence[Turn]) -> Iterator[str]:
    for name in _names(turns):
        seconds = quartiles([sum(turn.seconds.values()) for turn in of_model(turns, name)])
        spread = (seconds["q3"] - seconds["q1"]) / seconds["median"]
        if spread > SCATTER:
            yield f"turns of the {name} model scatter: their middle half spans {spread:.0%}"


def _drifted(turns: Sequence[Turn]) -> Iterator[str]:
    """Yield the models that became slower or faster, as of a processor that throttles."""
    for name in _names(turns):
        medians = [
            statistics.median(sum(turn.seconds.values()) for turn in half)
            for half in _halves(of_model(turns, name))
        ]
        if medians and max(medians) > (1 + DRIFT) * min(medians):
            change = medians[1] / medians[0] - 1
            yield f"turns of the {name} model took {change:+.0%} in the second half of the run"
