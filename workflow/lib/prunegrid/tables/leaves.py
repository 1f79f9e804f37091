"""Artifacts that rows are read from: their manifests, and why one is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prunegrid.artifacts.artifact_folder import MANIFEST, read_manifest
from prunegrid.artifacts.job_status import has_failed, read_state, was_interrupted, with_label
from prunegrid.common.errors import PrunegridError


class NotMade(PrunegridError):
    """A step of a cell was not reached: the run was interrupted, or goes on."""


def status_of(error: PrunegridError) -> dict[str, str]:
    """Return the status and the reason of a cell that has no scores."""
    return {"status": "missing" if isinstance(error, NotMade) else "failed", "reason": str(error)}


def open_artifact(ref: dict[str, str]) -> dict:
    """Return the manifest of an artifact.

    Raises:
        PrunegridError: it is broken, or absent for the reason that is told.
    """
    if _exists(ref):
        return read_manifest(Path(ref["path"]), ref["key"])
    state = read_state(Path(ref["status"])) or {}
    if state.get("state") == "failed":
        raise PrunegridError(with_label(ref["label"], state["reason"]))
    if state.get("state") == "running":  # on another machine, where it cannot be looked after
        raise PrunegridError(
            f"was not made, and its job on {state.get('host')} has not said why",
            where=ref["label"],
            remedy="it runs still, or was killed (memory, a time limit, a cancel): see its log",
        )
    if state.get("state") == "interrupted":
        raise NotMade("was interrupted", where=ref["label"])
    raise NotMade("was not made", where=ref["label"])


def _exists(ref: dict[str, str]) -> bool:
    return Path(ref["path"], MANIFEST).exists()


def manifests_of(cell: dict[str, Any]) -> dict[str, dict]:
    """Return the manifests of a cell's leaves by role, as `open_leaves` does."""
    leaves = {
        f"{role}:{split}": ref
        for split, pair in cell["texts"].items()
        for role, ref in pair.items()
    }
    leaves |= {f"perplexity:{name}": ref for name, ref in cell["perplexities"].items()}
    leaves |= {f"tasks:{name}": ref for name, ref in cell["tasks"].items()}
    if cell["efficiency"]:
        leaves["efficiency:"] = cell["efficiency"]
    return open_leaves(cell, leaves)


def open_leaves(cell: dict[str, Any], leaves: dict[str, dict]) -> dict[str, dict]:
    """Return the manifests of leaves by role.

    Raises:
        PrunegridError: one was not made, with the reason of the first failure in the cell's chain,
            or of the first step that was interrupted; or it is broken.
    """
    missing = [ref for ref in leaves.values() if not _exists(ref)]
    if missing:
        ended = [
            ref
            for has_ended in (has_failed, was_interrupted)
            for ref in cell["ancestors"]
            if has_ended(Path(ref["status"]))
        ]
        for ref in [*ended, missing[0]]:
            open_artifact(ref)
    return {role: open_artifact(ref) for role, ref in leaves.items()}
