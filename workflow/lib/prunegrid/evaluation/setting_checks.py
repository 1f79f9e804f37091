"""Checks of the settings of metrics and baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prunegrid.common.errors import PrunegridError, nearest


def with_defaults(
    settings: Mapping[str, Any], defaults: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Return the settings, with the defaults of those that are left out.

    Raises:
        PrunegridError: a setting has no default, so it is unknown.
    """
    for name in sorted(settings.keys() - defaults.keys()):
        raise PrunegridError(
            f"unknown setting '{name}'", where=where, remedy=nearest(name, defaults)
        )
    return {**defaults, **settings}


def require_number(name: str, value: Any, least: int, kind: type = int) -> None:
    """Check that a setting is a number of at least `least`, a whole one where `kind` is int.

    Raises:
        ValueError: it is not.
    """
    numbers = int if kind is int else int | float
    if isinstance(value, bool) or not isinstance(value, numbers) or value < least:
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name} is {value!r}; expected {what} of at least {least}")
