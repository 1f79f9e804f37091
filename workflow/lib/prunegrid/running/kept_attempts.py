"""What a job has made before it failed: members of a group, benchmarks asked by one job.

A scheduler runs a group as one job. Where one member fails (or is killed at the group's limit),
Snakemake counts all of them as failed: it removes the manifests of those that were done, and runs
them again at the next try. So a submitted job keeps its manifest a second time, and the next try
finds its artifact whole, compares every file with it, and takes it as it is. So does a job that has
made its own artifact, as another one may fail that it is to make beside it
(`prunegrid.graph.benchmark_batches`).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prunegrid.artifacts import artifact_folder
from prunegrid.artifacts.lock import if_no_maker
from prunegrid.artifacts.manifest import read_manifest
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError

# Set in submitted jobs, and inherited by their steps.
SUBMITTED = "PRUNEGRID_SUBMITTED"
ENDING = ".made.json"


def keep(node: Mapping[str, Any]) -> None:
    """Keep the manifest of an artifact that was just made."""
    kept = _kept(node)
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(node["path"]) / artifact_folder.MANIFEST, kept)


def restore(node: Mapping[str, Any], parents: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether an earlier try has made the artifact, which then has its manifest again.

    Args:
        node: `Node.params()`.
        parents: role -> manifest of what it is to be made of.
    """
    folder, kept = Path(node["path"]), _kept(node)
    if not kept.exists() or not folder.is_dir():
        return False
    manifest = folder / artifact_folder.MANIFEST
    file_io.write_text(manifest, kept.read_text(encoding="utf-8"))
    try:
        made = read_manifest(folder, node["key"])
        of = {role: facts["content"] for role, facts in made["parents"].items()}
        if of == {role: parent["content"] for role, parent in parents.items()}:
            return True
    except (AttestationError, KeyError):
        pass  # it was changed, or cut short: it is made again
    manifest.unlink()
    return False


def bring_back(nodes: Iterable[Mapping[str, Any]]) -> None:
    """Give artifacts of nodes (`Node.params()`) their manifests again, after a run that failed."""
    for node in nodes:
        manifest = Path(node["path"]) / artifact_folder.MANIFEST
        if not _kept(node).exists() or manifest.exists():
            continue
        with (
            contextlib.suppress(AttestationError, OSError),
            if_no_maker(Path(f"{node['scratch']}.lock")) as free,
        ):
            parents = {role: Path(parent["path"]) for role, parent in node["parents"].items()}
            read = {r: read_manifest(path, check_files=False) for r, path in parents.items()}
            if free and not manifest.exists():
                restore(node, read)


def forget(nodes: Iterable[Mapping[str, Any]]) -> None:
    """Remove what was kept of nodes (`Node.params()`), once all of a run is made.

    What another run in this folder has kept stays: its groups may fail yet.
    """
    for node in nodes:
        _kept(node).unlink(missing_ok=True)


def _kept(node: Mapping[str, Any]) -> Path:
    return Path(f"{node['scratch']}{ENDING}")
