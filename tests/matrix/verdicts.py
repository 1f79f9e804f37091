"""What an error of the library says about a cell: an early clear refusal, or a fault."""

from __future__ import annotations

from prunegrid.common.errors import AttestationError, PrunegridError

VERIFIED, REFUSED, FAULT, UNTRIED = "verified", "refused", "fault", "untried"
# The subjects are whole models of their task. So a refusal that blames the files or the task gives
# an untrue reason, and one that asks for a report, or comes after the work, is none.
NO_REASONS = (
    *("please report it", "download it again", "run again", "do not fit the config"),
    *("name another model", "merging the adapter changed"),
)
# How the documented checks after the work end: by saying that an architecture is not supported.
GUARD = "is not supported"


class Untried(Exception):
    """A step cannot be tried, as what it starts from is not there."""


def is_reason(error: PrunegridError) -> bool:
    """Return whether an error is a refusal that a user can believe."""
    text = str(error)
    if isinstance(error, AttestationError) and GUARD not in text:
        return False
    return not any(part in text for part in NO_REASONS)
