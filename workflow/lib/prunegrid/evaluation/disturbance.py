"""Whether something disturbed a timing: counts that are compared with the clock, never a time.

The bounds are shares, so that a slow machine passes them as a fast one does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from prunegrid.evaluation.speed import Turn, of_model, quartiles

# Of the clock: in which this process did not run.
WAITED = 0.10
# Of all CPUs that it may use: what other processes had of them, what other machines had.
OTHERS, STOLEN = 0.10, 0.02
# The middle half of a model's turns, over their median.
SCATTER = 0.20
# By which a counter may be off at each end.
TICK = 1 / (os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100)


def reasons(turns: Sequence[Turn], capacity: int, device: str) -> list[str]:
    """Return why a timing is not to be believed; [] where nothing disturbed it.

    On CUDA the CPU only hands out work, so what it waits for and what runs beside it says nothing.

    Args:
        turns: of all models.
        capacity: CPUs that the process may use.
    """
    found = list(_scattered(turns))
    clock = sum(turn.clock for turn in turns)
    slack = 2 * TICK * capacity
    if not device.startswith("cuda"):
        waited = clock - sum(turn.cpu for turn in turns)
        if waited > WAITED * clock:
            found.append(f"the process waited for a CPU in {waited / clock:.0%} of the time")
        others = _total(turns, "others")
        if others > OTHERS * capacity * clock + slack:
            share = others / (capacity * clock)
            found.append(f"other processes took {share:.0%} of the CPUs")
    stolen = _total(turns, "stolen")
    if stolen > STOLEN * capacity * clock + slack:
        found.append(f"other virtual machines took {stolen / (capacity * clock):.0%} of the CPUs")
    if throttled := round(_total(turns, "throttled")):
        found.append(f"a cgroup's quota stopped the process {throttled} times")
    return found


def _scattered(turns: Sequence[Turn]) -> Iterator[str]:
    for name in dict.fromkeys(turn.model for turn in turns):
        seconds = quartiles([sum(turn.seconds.values()) for turn in of_model(turns, name)])
        spread = (seconds["q3"] - seconds["q1"]) / seconds["median"]
        if spread > SCATTER:
            yield f"turns of the {name} model scatter: their middle half spans {spread:.0%}"


def _total(turns: Sequence[Turn], fact: str) -> float:
    return sum(getattr(turn, fact) or 0 for turn in turns)
