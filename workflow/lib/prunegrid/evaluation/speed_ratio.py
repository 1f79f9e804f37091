"""The ratio of two models' speeds, from turns that both took in one process.

The effect is the mean over pairs of turns of log(seconds of the dense model / seconds of the cell).
Its interval is Student's t over pairs at 99.9%, widened by 2%: docs/reference/sizes.md says why.
(Few pairs are the rule, and a bootstrap over five is too narrow.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from prunegrid.evaluation.speed import Turn, of_model

CONFIDENCE = 0.999
RESOLUTION = 0.02
# Fewer could all have met a neighbour on the same side.
LEAST_PAIRS = 5
# Keeps the ends of a hopeless interval within what JSON can say.
_LARGEST = 50.0


def ratios(turns: Sequence[Turn], cell: str, other: str) -> dict[str, dict]:
    """Return {phase: `ratio`} of a cell's speed to another model's; above 1 is faster."""
    mine, theirs = of_model(turns, cell), of_model(turns, other)
    if [turn.round for turn in mine] != [turn.round for turn in theirs]:
        raise ValueError("the turns are no pairs")
    return {
        phase: ratio([t.seconds[phase] for t in theirs], [t.seconds[phase] for t in mine])
        for phase in mine[0].seconds
    }


def ratio(theirs: Sequence[float], mine: Sequence[float]) -> dict[str, Any]:
    """Return {value, low, high, verdict}: how many times as fast `mine` is, and the interval.

    Fewer than five pairs have no interval and no verdict.

    Args:
        theirs, mine: seconds, one a pair.
    """
    # Imported here: its imports would take memory while models are timed.
    from scipy.special import stdtrit

    logs = numpy.log(theirs) - numpy.log(mine)
    middle = float(logs.mean())
    facts: dict[str, Any] = {"value": math.exp(middle), "low": None, "high": None, "verdict": None}
    if len(logs) < LEAST_PAIRS:
        return facts
    error = float(logs.std(ddof=1)) / math.sqrt(len(logs))
    quantile = float(stdtrit(len(logs) - 1, (1 + CONFIDENCE) / 2))
    half = quantile * error + math.log1p(RESOLUTION)
    low, high = (math.exp(numpy.clip(middle + end, -_LARGEST, _LARGEST)) for end in (-half, half))
    verdict = "faster" if low > 1 else "slower" if high < 1 else "not distinguishable"
    return facts | {"low": low, "high": high, "verdict": verdict}
