"""The axis of a panel: linear or logarithmic, its ends, and which values lie beyond them.

One value that is far off must not flatten the others: it is drawn at the edge, with its number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prunegrid.tables.figures.display_names import number
from prunegrid.tables.figures.points import Score

FAR = 3  # a value is far off if without it the others fill less than a third of the axis
FEWEST = 4  # values from which on one can be far off
DECADES = 1.5  # a span of positive values from which on a logarithmic axis may be used
PAD = 0.05  # of the span, on both sides


@dataclass(frozen=True)
class Scale:
    """The axis of one panel: its ends, and where numbers stand."""

    is_log: bool
    low: float
    high: float
    ticks: tuple[float, ...]

    def beyond(self, value: float) -> str:
        """Return "low" or "high" for a value beyond an end of the axis, "" for one on it."""
        if value < self.low:
            return "low"
        return "high" if value > self.high else ""

    def within(self, value: float) -> float:
        """Return the value, or the end of the axis that it lies beyond."""
        return min(max(value, self.low), self.high)

    def labels(self) -> list[str]:
        """Return the texts of the ticks, all with the same number of decimals."""
        if self.is_log:
            return [_tick(value) for value in self.ticks]
        steps = [b - a for a, b in zip(self.ticks, self.ticks[1:], strict=False)]
        step = min(steps, default=1.0)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return [f"{value:,.{decimals}f}" for value in self.ticks]


def _tick(value: float) -> str:
    return f"{value:,.10g}" if value < 1e6 else number(value)


def fit(
    scores: Iterable[Score],
    *,
    log: bool,
    levels: Iterable[float] = (),
    ticks: int,
    clip: bool = True,
) -> Scale:
    """Return the axis for scores.

    Args:
        log: whether a logarithmic axis is wanted (perplexities); others have one where positive
            values span more than `DECADES` and most of them would lie in the lowest tenth.
        levels: values of lines that are drawn, such as chance; the axis reaches to near ones.
        ticks: the most numbers that there is room for.
        clip: whether values that are far off may lie beyond the ends: one in five at most.
    """
    scores = [score for score in scores if math.isfinite(score.value)]
    values = sorted(score.value for score in scores)
    if not values:
        return Scale(False, 0.0, 1.0, (0.0, 0.5, 1.0))
    is_log = values[0] > 0 and (log or _crowded(values))
    to, back = (math.log10, _power) if is_log else (float, float)
    usual = _usual_bar(scores, to)
    shown = [to(value) for value in values]
    if clip:
        shown = _near(shown, usual)
    low, high = _ends(scores, shown, usual, to, levels)
    if values[0] >= 0 and not is_log and low < -PAD * (high - low):
        low = 0.0
    low, high = back(low), back(high)
    return Scale(is_log, low, high, (_log_ticks if is_log else _linear_ticks)(low, high, ticks))


def _power(exponent: float) -> float:
    return 10.0**exponent


def _crowded(values: Sequence[float]) -> bool:
    """Return whether a linear axis would flatten most of the values."""
    is_wide = math.log10(values[-1] / values[0]) > DECADES
    return is_wide and values[len(values) // 2] < values[-1] / 10


def _near(values: Sequence[float], usual: float) -> Sequence[float]:
    """Return sorted values without those that are far off: one in five at most.

    Values that usual intervals nearly reach are not far off.
    """
    if len(values) < FEWEST:
        return values
    whole = values[-1] - values[0]
    for left_out in range(1, max(1, len(values) // 5) + 1):
        for below in range(left_out + 1):
            rest = values[below : len(values) - (left_out - below)]
            if 0 < max(rest[-1] - rest[0], usual) * FAR < whole:
                return rest
    return values


def _usual_bar(scores: Iterable[Score], to: Callable[[float], float]) -> float:
    """Return the median length of the intervals on the axis, 0 without any."""
    bars = sorted(
        to(score.high) - to(score.low)
        for score in scores
        if _has(to, score.low) and _has(to, score.high)
    )
    return bars[len(bars) // 2] if bars else 0.0


def _ends(
    scores: Sequence[Score],
    shown: Sequence[float],
    usual: float,
    to: Callable[[float], float],
    levels: Iterable[float],
) -> tuple[float, float]:
    """Return the ends of the axis, transformed: of the shown values, and of bars and lines near."""
    low, high = shown[0], shown[-1]
    reach = max(high - low, 1.5 * usual) or math.inf
    near = [score for score in scores if low <= to(score.value) <= high]
    bounds = [end for score in near for end in (*score.seeds, score.low, score.high)]
    ends = [low, high, *(to(end) for end in (*bounds, *levels) if _has(to, end))]
    least = min(end for end in ends if end >= low - reach)
    most = max(end for end in ends if end <= high + reach)
    if most - least <= 1e-9 * max(1.0, abs(most)):  # equal but for rounding
        least, most = least - 0.05 * max(1.0, abs(least)), most + 0.05 * max(1.0, abs(most))
    pad = PAD * (most - least)
    return least - pad, most + pad


def _has(to: Callable[[float], float], value: float | None) -> bool:
    """Return whether there is a value and the axis has a place for it."""
    return value is not None and math.isfinite(value) and (to is float or value > 0)


def _linear_ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """Return multiples of 1, 2 or 5 times a power of ten between the ends, `most` at most."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            break
    return tuple(round(index * step, 12) for index in range(first, last + 1))


def _log_ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """Return round numbers between the ends: as many as there is room for, if possible three."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = range(first, last + 1)
    fine = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    for factors in (fine, (1, 1.5, 2, 3, 5, 7), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**decade for decade in decades for factor in factors]
        ticks = [round(tick, 9) for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            enough = len(ticks) >= min(3, most)
            return tuple(ticks) if enough else _linear_ticks(low, high, most)
    return tuple(ticks[:: math.ceil(len(ticks) / most)])
