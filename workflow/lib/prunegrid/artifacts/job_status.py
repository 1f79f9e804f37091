"""The status record of a step's job: running, or failed and why."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prunegrid.common.errors import AttestationError
from prunegrid.common.file_io import read_json

_UNREADABLE = {"state": "failed", "reason": "its status record cannot be read"}


def with_label(label: str, reason: str) -> str:
    """Return a failed step's reason with its label in front, once; a source may follow that."""
    return reason if reason.startswith((f"{label}: ", f"{label} (")) else f"{label}: {reason}"


def has_failed(status: Path) -> bool:
    """Return whether a step's last status is a failure."""
    return (read_state(status) or {}).get("state") == "failed"


def forget_failures(statuses: Iterable[str | Path]) -> None:
    """Remove the records of failures, as a run begins: what it does not reach has not failed."""
    for status in map(Path, statuses):
        if has_failed(status):
            status.unlink(missing_ok=True)


def read_state(status: Path) -> dict[str, Any] | None:
    """Return a step's status record, None where it has none; a dead job counts as failed."""
    try:
        state = read_json(status)
    except (AttestationError, RecursionError):
        return _UNREADABLE if status.exists() else None
    facts = {"running": ("pid", int), "failed": ("reason", str)}
    name = str(state.get("state")) if isinstance(state, dict) else ""
    if name not in facts or not isinstance(state.get(facts[name][0]), facts[name][1]):
        return _UNREADABLE
    if name == "running" and state.get("host") == socket.gethostname():
        try:
            os.kill(state["pid"], 0)
        except (ProcessLookupError, OverflowError):
            return {"state": "failed", "reason": "the job was killed before it could say why"}
        except PermissionError:  # another user's process: it lives
            pass
    return state
