"""Whether a clock runs whose seconds go into a table: nothing may be loaded or fetched meanwhile.

Times of generation, training and efficiency are of the work alone. What reads weights or downloads
files asks here first, so a time that holds either cannot be written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prunegrid.common.errors import AttestationError

under_way: list[str] = []


@contextlib.contextmanager
def running(what: str) -> Iterator[None]:
    """Say that the clock of `what` runs inside of the block."""
    under_way.append(what)
    try:
        yield
    finally:
        under_way.pop()


def require_stopped(doing: str, where: str) -> None:
    """Check that no clock runs.

    Args:
        doing: what is about to be done, as in "weights are read".

    Raises:
        AttestationError: one does, and would count it.
    """
    if under_way:
        raise AttestationError(
            f"{doing} while the clock of {under_way[-1]} runs",
            where=where,
            expected="loading and downloading before the clock starts",
            remedy="its seconds would be no time of that work: please report it",
        )
