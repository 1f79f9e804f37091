"""A guard of the times in tables: while a clock runs nothing may be loaded or fetched.

Code that reads weights or downloads files calls `require_stopped` first, so a time that holds
either cannot be written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prunegrid.common.errors import AttestationError

under_way: list[str] = []


@contextlib.contextmanager
def running(what: str) -> Iterator[None]:
    """Mark that the clock of `what` runs inside the block."""
    under_way.append(what)
    try:
        yield
    finally:
        under_way.pop()


def require_stopped(doing: str, where: str) -> None:
    """Check that no clock runs.

    Args:
        doing: what is about to happen, as in "weights are read".

    Raises:
        AttestationError: one runs, and would count it.
    """
    if under_way:
        raise AttestationError(
            f"{doing} while the clock of {under_way[-1]} runs",
            where=where,
            expected="loading and downloading before the clock starts",
            remedy="its seconds would be no time of that work: please report it",
        )
