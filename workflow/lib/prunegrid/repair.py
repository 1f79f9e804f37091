"""Taking out what a fault has damaged, so that the next run makes it again: `prunegrid repair`."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from prunegrid.artifacts import MANIFEST
from prunegrid.errors import AttestationError, PrunegridError
from prunegrid.manifests import read_manifest
from prunegrid.nodes import ARTIFACTS
from prunegrid.retention import is_there

# Held by every run (`prunegrid.engine.hold_folder`).
LIVE = Path(".snakemake/prunegrid.lock")


def repair(folder: Path = ARTIFACTS) -> list[str]:
    """Remove damaged artifacts and what killed jobs left half-written; return a line for each.

    Every file of every artifact is hashed. An artifact whose children are whole is not made again,
    since nothing reads it; tables that are damaged are written again by the next run as they are.

    Raises:
        PrunegridError: a run is under way in this folder.
    """
    with nobody_else():
        removed = []
        for path in sorted(folder.glob("*/.*.tmp")):
            shutil.rmtree(path, ignore_errors=True)
            removed.append(f"{path}: half-written")
        whole = sorted(path for path in folder.glob("*/*") if path.is_dir())
        for path in tqdm(whole, unit="artifact", disable=None):
            fault = _fault(path)
            if fault:
                shutil.rmtree(path)
                removed.append(fault)
        return removed


def _fault(path: Path) -> str:
    """Return what is wrong with an artifact, "" where nothing is."""
    if not is_there(path / MANIFEST):
        return f"{path}: without a manifest"
    try:
        read_manifest(path, path.name)
    except AttestationError as error:
        return f"{error.where}: {error.what}"
    return ""


@contextlib.contextmanager
def nobody_else() -> Iterator[None]:
    """Give a context in which no run is under way in this folder.

    Raises:
        PrunegridError: one is.
    """
    if not LIVE.exists():
        yield
        return
    with open(LIVE, "a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PrunegridError(
                "a run is under way in this folder", remedy="wait for its end, or stop it"
            ) from error
        yield
