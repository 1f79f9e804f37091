"""How the oracle compares: a fact that does not hold is a `Mismatch`."""

from __future__ import annotations


class Mismatch(Exception):
    """The library's result is not the oracle's."""


def require(holds: bool, sentence: str) -> None:
    """Check a fact.

    Raises:
        Mismatch: it does not hold.
    """
    if not holds:
        raise Mismatch(sentence)


def require_equal(what: str, found, expected) -> None:
    """Check that two facts are the same."""
    require(found == expected, f"{what} is {found}; the oracle has {expected}")


def require_names(what: str, found, expected) -> None:
    """Check that two collections have the same names."""
    extra, lost = sorted(set(found) - set(expected)), sorted(set(expected) - set(found))
    require(not extra, f"{what}: the oracle has no {''.join(extra[:1])}")
    require(not lost, f"{what}: {''.join(lost[:1])} is missing")


def require_digest(what: str, found: str, expected: str) -> None:
    """Check that two digests are the same, without printing them: they differ between CPUs."""
    require(found == expected, f"the digest of {what} is not the oracle's")


def require_close(what: str, found: float, expected: float, tolerance: float) -> None:
    """Check that two numbers are equal up to rounding."""
    apart = abs(found - expected)
    require(
        apart <= tolerance * max(abs(expected), 1e-3),
        f"{what} is off by more than {tolerance:g} of the oracle's",
    )
