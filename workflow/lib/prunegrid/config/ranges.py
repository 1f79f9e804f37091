"""Ranges of numbers in a grid: `{from: 0.3, to: 0.8, step: 0.1}` stands for a list of values."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

KEYS = {"from", "to", "step"}
MOST = 1000


def is_range(value: Any) -> bool:
    """Return whether a value of a grid is meant as a range."""
    return isinstance(value, Mapping) and "from" in value and set(value) <= KEYS


def unrolled(value: Any) -> Any:
    """Return the list of a range's values, the last included; any other value as it is.

    Whole numbers stay whole. Steps are added in decimals, so 0.3 to 0.8 by 0.1 gives 0.7 and not
    0.7000000000000001.

    Raises:
        ValueError: a bound is no number, the step is not above 0, or no value lies between.
    """
    if not is_range(value):
        return value
    parts = {key: value.get(key, 1 if key == "step" else None) for key in ("from", "to", "step")}
    for key, part in parts.items():
        if isinstance(part, bool) or not isinstance(part, int | float):
            raise ValueError(f"has a range whose `{key}` is {part!r}; expected a number")
    first, last, step = (Decimal(str(part)) for part in parts.values())
    if step <= 0 or last < first:
        raise ValueError(f"has the range {dict(value)}; expected from ≤ to, and a step above 0")
    if (last - first) / step >= MOST:
        raise ValueError(f"has the range {dict(value)}; expected at most {MOST} values")
    whole = all(isinstance(part, int) for part in parts.values())
    values = [first + index * step for index in range(int((last - first) / step) + 1)]
    return [int(each) if whole else float(each) for each in values]
