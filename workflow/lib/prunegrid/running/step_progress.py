"""How far a step's loops are, for its status record: every progress bar of a job reports it.

Loops show a bar of tqdm on a terminal alone. A job has none, so its bars write to the record here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

EVERY_SECONDS = 1.0

# The bars under way, by identity, as tqdm calls bars equal that are at one place of the screen. The
# outermost is reported.
_shown: dict[int, None] = {}


def report(write: Callable[[dict[str, Any]], None], clock: Callable[[], float] = time.time) -> None:
    """Make bars of tqdm that are created from now on report how far they are.

    Bars that a module has imported before stay as they are.

    Args:
        write: takes {"unit", "done", "of", "first" (where the bar began), "seconds" (since then)},
            at most once in EVERY_SECONDS.
        clock: gives seconds.
    """
    import tqdm
    import tqdm.auto

    tqdm.tqdm = tqdm.auto.tqdm = _reporting(tqdm.auto.tqdm, write, clock)


def _reporting(bar: type, write: Callable[[dict[str, Any]], None], clock: Callable) -> type:
    """Return a class of bars that report how far they are, also where they are not drawn."""

    class ReportingBar(bar):
        """A bar that reports how far it is, also where it is not drawn."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            total, given = options.get("total"), self.iterable
            self.expected = total or (len(given) if hasattr(given, "__len__") else None)
            self.unit_name = options.get("unit") or options.get("desc") or "part"
            self.first_done = self.done_so_far = options.get("initial", 0)
            self.began_at, self.reported_at = clock(), 0.0

        def __iter__(self) -> Iterator[Any]:
            _shown[id(self)] = None
            try:
                for one in super().__iter__():
                    yield one
                    if self.disable:  # else it calls update
                        self.report_steps(1)
            finally:
                _shown.pop(id(self), None)

        def update(self, n: float | None = 1) -> bool | None:
            _shown.setdefault(id(self))
            self.report_steps(n or 0)
            return super().update(n)

        def close(self) -> None:
            super().close()
            _shown.pop(id(self), None)

        def report_steps(self, more: float) -> None:
            self.done_so_far += more
            now = clock()
            is_outermost = next(iter(_shown), None) == id(self)
            if is_outermost and self.expected and now - self.reported_at >= EVERY_SECONDS:
                self.reported_at = now
                progress = {"unit": self.unit_name, "done": int(self.done_so_far)}
                progress |= {"of": int(self.expected), "first": int(self.first_done)}
                write(progress | {"seconds": now - self.began_at})

    return ReportingBar
