"""The status record of a step's job: running, failed or interrupted, and why."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prunegrid.common.errors import AttestationError
from prunegrid.common.file_io import read_json, write_json

_UNREADABLE = {"state": "failed", "reason": "its status record cannot be read"}


def with_label(label: str, reason: str) -> str:
    """Return a failed step's reason with its label in front, once; a source may follow that."""
    return reason if reason.startswith((f"{label}: ", f"{label} (")) else f"{label}: {reason}"


def has_failed(status: Path) -> bool:
    """Return whether a step's last status is a failure."""
    return (read_state(status) or {}).get("state") == "failed"


def was_interrupted(status: Path) -> bool:
    """Return whether a step's last job was ended by the end of its run."""
    return (read_state(status) or {}).get("state") == "interrupted"


def forget_failures(statuses: Iterable[str | Path]) -> None:
    """Remove the records of ended jobs, as a run begins: what it does not reach has not failed."""
    for status in map(Path, statuses):
        if has_failed(status) or was_interrupted(status):
            status.unlink(missing_ok=True)


def mark_interrupted(statuses: Iterable[str | Path]) -> None:
    """Call jobs interrupted that were told to stop: their run was told too."""
    for status in map(Path, statuses):
        state = read_state(status) or {}
        if state.get("state") == "failed" and state.get("is_told"):
            write_json(status, {**state, "state": "interrupted"})


def read_state(status: Path) -> dict[str, Any] | None:
    """Return a step's status record, None where it has none; a dead job counts as failed."""
    try:
        state = read_json(status)
    except (AttestationError, RecursionError):
        return _UNREADABLE if status.exists() else None
    reason = ("reason", str)
    facts = {"running": ("pid", int), "failed": reason, "interrupted": reason}
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
