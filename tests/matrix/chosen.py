"""The tenth of the models that a commit's hash chooses."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

SHARE = 10


def commit_hash(root: Path, names: Sequence[str]) -> str:
    """Return the checkout's commit; a digest of the models' names where there is no git."""
    try:
        told = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        return told.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return hashlib.sha256("\n".join(names).encode()).hexdigest()


def tenth(names: Sequence[str], commit: str) -> list[str]:
    """Return a tenth of the names, rounded up, in their order; others for another commit."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"{commit} {name}".encode()).digest())
    chosen = set(ranked[: -(-len(names) // SHARE)])
    return [name for name in names if name in chosen]
