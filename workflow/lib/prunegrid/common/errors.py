"""Errors for users: the fault, its place, what would be right, and the remedy."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class PrunegridError(Exception):
    """A fault of the input or of the machine that the user can mend.

    Its text is one sentence in the form `where: what; expected …; remedy`, without a traceback.

    Args:
        what: the fault, with the offending value.
        where: file and key, or the artifact, in which it was found.
        expected: what would have been right.
        remedy: what to do about it.
    """

    def __init__(self, what: str, *, where: str = "", expected: str = "", remedy: str = "") -> None:
        self.what, self.where, self.expected, self.remedy = what, where, expected, remedy
        text = f"{where}: {what}" if where else what
        if expected:
            text += f"; expected {expected}"
        if remedy:
            text += f"; {remedy}"
        super().__init__(text)

    def __reduce__(self):
        return (_rebuild, (type(self), self.what, self.where, self.expected, self.remedy))


class AttestationError(PrunegridError):
    """Weights, counts or artifacts are not the ones that the record names."""


@contextlib.contextmanager
def explained(
    error: PrunegridError, kinds: type[Exception] | tuple[type[Exception], ...] = Exception
) -> Iterator[None]:
    """Raise `error` for an exception inside the block, with that one's first line added to `what`.

    A PrunegridError passes as it is, and so do exceptions of other kinds.
    """
    try:
        yield
    except PrunegridError:
        raise
    except kinds as cause:
        facts = {"where": error.where, "expected": error.expected, "remedy": error.remedy}
        raise type(error)(f"{error.what} ({summary(cause)})", **facts) from cause


def _rebuild(kind: type[PrunegridError], what: str, where: str, expected: str, remedy: str):
    return kind(what, where=where, expected=expected, remedy=remedy)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a phrase that names the closest valid names: `did you mean 'wanda'? (known: …)`."""
    known = sorted(str(k) for k in known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    listing = ", ".join(known) if known else "none"
    return (f"did you mean '{close[0]}'? " if close else "") + f"(known: {listing})"


def summary(error: BaseException) -> str:
    """Return the first line of a library's error, or its class if it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
