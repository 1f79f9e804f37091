"""What a step's job last said of itself: running, or failed and why."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from prunegrid.common.errors import AttestationError
from prunegrid.common.file_io import read_json

_UNREADABLE = {"state": "failed", "reason": "its status record cannot be read"}


def with_label(label: str, reason: str) -> str:
    """Return why a step failed, after its label; many reasons begin with it."""
    return reason if reason.startswith(f"{label}: ") else f"{label}: {reason}"


def has_failed(status: Path) -> bool:
    """Return whether the last that was heard of a step is that it failed."""
    return (read_state(status) or {}).get("state") == "failed"


def read_state(status: Path) -> dict[str, Any] | None:
    """Return a step's status record, None where it has none; a dead job counts as failed."""
    try:
        state = read_json(status)
    except (AttestationError, RecursionError):
        if not status.exists():
            return None
        return _UNREADABLE
    wanted = {"running": ("pid", int), "failed": ("reason", str)}
    told = str(state.get("state")) if isinstance(state, dict) else ""
    if told not in wanted or not isinstance(state.get(wanted[told][0]), wanted[told][1]):
        return _UNREADABLE
    if state["state"] == "running" and state.get("host") == socket.gethostname():
        try:
            os.kill(state["pid"], 0)
        except (ProcessLookupError, OverflowError):
            return {"state": "failed", "reason": "the job was killed before it could say why"}
        except PermissionError:  # another user's process: it lives
            pass
    return state
