"""Signs that a timing was disturbed: counts as shares of the clock (docs/sizes.md)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from prunegrid.evaluation.speed import Turn, of_model, quartiles

# Shares of the clock in which this process did not run, in which other processes had the CPUs that
# it may use, and in which other machines had them.
WAITED, OTHERS, STOLEN = 0.10, 0.10, 0.02
# The middle half of a model's turns, over their median.
SCATTER = 0.20
# Seconds by which a counter may be off at each end.
TICK = 1 / (os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100)


def reasons(turns: Sequence[Turn], capacity: int, device: str) -> list[str]:
    """Return why a timing is not to be believed; [] where nothing disturbed it.

    On CUDA the CPU only hands out work, so its waits and its other processes say nothing.

    Args:
        turns: of all models.
        capacity: CPUs that the process may use.
    """
    listed = list(_scattered(turns))
    clock = sum(turn.clock for turn in turns)
    total, slack = capacity * clock, 2 * TICK * capacity
    if not device.startswith("cuda"):
        waited = clock - sum(turn.cpu for turn in turns)
        if waited > WAITED * clock:
            listed.append(f"the process waited for a CPU in {waited / clock:.0%} of the time")
        others = sum(turn.others or 0 for turn in turns)
        if others > OTHERS * capacity * clock + slack:
            listed.append(f"other processes took {others / total:.0%} of the CPUs")
    stolen = sum(turn.stolen or 0 for turn in turns)
    if stolen > STOLEN * capacity * clock + slack:
        listed.append(f"other virtual machines took {stolen / total:.0%} of the CPUs")
    if throttled := sum(turn.throttled or 0 for turn in turns):
        listed.append(f"a cgroup's quota stopped the process {throttled} times")
    return listed


def _scattered(turns: Sequence[Turn]) -> Iterator[str]:
    for name in dict.fromkeys(turn.model for turn in turns):
        seconds = quartiles([sum(turn.seconds.values()) for turn in of_model(turns, name)])
        spread = (seconds["q3"] - seconds["q1"]) / seconds["median"]
        if spread > SCATTER:
            yield f"turns of the {name} model scatter: their middle half spans {spread:.0%}"
