"""Reports of failed steps: one sentence if the user or the machine is at fault."""

from __future__ import annotations

import errno
import logging
import re

from prunegrid.common.errors import PrunegridError
from prunegrid.common.logs import redact

log = logging.getLogger("prunegrid")

_AGAIN = "and run the same command again"
# Errors of the disk, which libraries wrap in classes of their own and name in their texts.
_DISK = {
    errno.ENOSPC: ("no space left on the disk", f"free some space, {_AGAIN}"),
    errno.EDQUOT: ("the disk quota is used up", f"free some space, {_AGAIN}"),
    errno.EROFS: ("the disk is read-only", f"make results/ writable, {_AGAIN}"),
    errno.EACCES: ("a file may not be written", f"make results/ writable, {_AGAIN}"),
    errno.EIO: ("the disk failed to read or to write", f"check the disk, {_AGAIN}"),
}
_NUMBER = re.compile(r"\b(?:os error|errno) (\d+)\b", re.I)


class Stopped(BaseException):
    """The job was told to stop. No `except Exception` on the way may catch it."""


def report(error: BaseException, label: str) -> str:
    """Log and return why the step `label` ended, with a traceback if the program is at fault."""
    if isinstance(error, KeyboardInterrupt):
        log.warning("%s: interrupted (Ctrl-C)", label)
        return "interrupted (Ctrl-C)"
    if not isinstance(error, (PrunegridError, Stopped)):
        disk_error = _of_disk(error)
        if disk_error is None:
            log.error("%s failed", label, exc_info=error)
            return redact(f"{type(error).__name__}: {error}")
        error = disk_error
    reason = redact(str(error))
    log.error("%s", reason)
    return reason


def _of_disk(error: BaseException) -> PrunegridError | None:
    """Return the error in the disk's words; None if it is not of the disk."""
    number = error.errno if isinstance(error, OSError) else None
    if number not in _DISK:
        match = _NUMBER.search(str(error))
        number = int(match[1]) if match else None
    if number not in _DISK:
        return None
    what, remedy = _DISK[number]
    name = getattr(error, "filename", None)
    return PrunegridError(what, where=str(name) if name else "", remedy=remedy)
