"""What a step's job last said of itself: running, or failed and why."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from prunegrid.artifacts import read_json
from prunegrid.errors import AttestationError


def read_state(status: Path) -> dict[str, Any] | None:
    """Return a step's status record, None where it has none; a dead job counts as failed."""
    try:
        state = read_json(status)
    except AttestationError:
        if not status.exists():
            return None
        return {"state": "failed", "reason": "its status record cannot be read"}
    if state.get("state") == "running" and state.get("host") == socket.gethostname():
        try:
            os.kill(state["pid"], 0)
        except ProcessLookupError:
            return {"state": "failed", "reason": "the job was killed before it could say why"}
        except PermissionError:  # another user's process: it lives
            pass
    return state
