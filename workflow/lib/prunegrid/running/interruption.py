"""Whether this run was told to stop: by Ctrl-C, or by SIGTERM."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from typing import Any

_signals: list[int] = []


def listen() -> None:
    """Note from now on which signals tell this process to stop; they do what they did before."""
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)
        if callable(before):
            with contextlib.suppress(ValueError):  # not the main thread: no signal comes here
                signal.signal(number, _noting(before))


def _noting(before: Callable[[int, Any], Any]) -> Callable[[int, Any], Any]:
    def handle(number: int, frame: Any) -> Any:
        _signals.append(number)
        return before(number, frame)

    return handle


def is_told() -> bool:
    """Return whether this run was told to stop since `listen`."""
    return bool(_signals)
