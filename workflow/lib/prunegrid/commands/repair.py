"""Removal of damaged artifacts, so that the next run makes them again."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from prunegrid.artifacts.artifact_folder import MANIFEST, discard, read_manifest
from prunegrid.artifacts.dropped import is_there
from prunegrid.artifacts.lock import if_no_maker, no_live_run
from prunegrid.common.errors import AttestationError
from prunegrid.graph.nodes import ARTIFACTS

log = logging.getLogger(__name__)


def repair(folder: Path = ARTIFACTS) -> list[str]:
    """Remove damaged artifacts and what killed jobs left half-written; return a line for each.

    Every file of every artifact is hashed. The next run makes a removed artifact only if a step
    that will run reads it. Jobs that outlive a killed run keep the artifacts that they are making.

    Raises:
        PrunegridError: a run is under way in this folder.
    """
    with no_live_run():
        removed = []
        for path in sorted(folder.glob("*/.*.tmp")):
            with free_to_remove(path, path.name.split(".")[1]) as free:
                if free:
                    discard(path)
                    removed.append(f"{path}: half-written")
        whole = sorted(path for path in folder.glob("*/*") if path.is_dir() and path.name[0] != ".")
        for path in tqdm(whole, unit="artifact", disable=None):
            if not fault_of(path):
                continue
            with free_to_remove(path, path.name) as free:
                # A job may have ended meanwhile, or dropped what was read.
                if free and (fault := fault_of(path)):
                    shutil.rmtree(path)
                    removed.append(fault)
        return removed


@contextlib.contextmanager
def free_to_remove(path: Path, key: str) -> Iterator[bool]:
    """Keep jobs from making the artifact inside the block; yield whether none is making it."""
    stage = path.parent
    lock = stage.parent.parent / "scratch" / f"{stage.name}-{key}.lock"
    with if_no_maker(lock) as free:
        if not free:
            log.info("%s: a job is making it; left as it is", path)
        yield free


def fault_of(path: Path) -> str:
    """Return what is wrong with an artifact, "" if nothing is."""
    if not is_there(path / MANIFEST):
        return f"{path}: without a manifest"
    try:
        read_manifest(path, path.name)
    except AttestationError as error:
        return f"{error.where}: {error.what}"
    return ""
