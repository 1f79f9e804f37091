"""Checks of the settings of metrics and baselines."""

from __future__ import annotations

from typing import Any


def require_number(name: str, value: Any, least: int, kind: type = int) -> None:
    """Check that a setting is a number of at least `least`, a whole one where `kind` is int.

    Raises:
        ValueError: it is not.
    """
    numbers = int if kind is int else int | float
    if isinstance(value, bool) or not isinstance(value, numbers) or value < least:
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name} is {value!r}; expected {what} of at least {least}")
