"""Readable links to the weights of a study's cells: `results/models/<study>/<cell>`.

They are relative and no part of the workflow: nothing reads them, and one that leads nowhere goes
when the study's table is next made, or when a run ends.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunegrid.artifacts.artifact_folder import MANIFEST

log = logging.getLogger("prunegrid")
FOLDER = "models"
LONGEST = 180
# Columns of a cell that are in its name if they differ within the study.
VARIED = ("model", "dataset", "seed")


def write(plan: Mapping[str, Any], results: Path) -> None:
    """Link the weights of a study's cells that are there, and remove links of others.

    Where the file system has no links, one line of the log says so.

    Args:
        plan: of its table.
        results: the folder of all results.
    """
    folder = results / FOLDER / plan["study"]
    places = dict(zip(names(plan["cells"]), plan["cells"], strict=True))
    wanted = {name: Path(cell["chain"][-1]["path"]) for name, cell in places.items()}
    wanted = {name: path for name, path in wanted.items() if (path / MANIFEST).is_file()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for link in folder.iterdir():
            if link.is_symlink() and link.name not in wanted:
                link.unlink()
        for name, path in wanted.items():
            _link(folder / name, os.path.relpath(path, folder))
    except OSError as error:
        log.warning("%s: no links to the models are made (%s)", folder, error.strerror)


def _link(link: Path, target: str) -> None:
    """Make a link, or lead one elsewhere; what is no link stays."""
    if link.is_symlink() and os.readlink(link) == target or link.exists() and not link.is_symlink():
        return
    aside = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    aside.symlink_to(target, target_is_directory=True)
    os.replace(aside, link)


def tidy(results: Path) -> None:
    """Remove links whose weights are gone or were dropped."""
    for link in (results / FOLDER).glob("*/*"):
        if link.is_symlink() and not (link / MANIFEST).is_file():
            link.unlink(missing_ok=True)


def names(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the name of each cell: its pruning and tuning, and what else differs in the study.

    Names hold letters, digits and `._+-` only. One that stands twice, or is too long for a file
    system, ends in the beginning of its weights' key.
    """
    columns = [cell["columns"] for cell in cells]
    varied = [key for key in VARIED if len({str(c.get(key)) for c in columns}) > 1]
    found: list[str] = []
    for cell, facts in zip(cells, columns, strict=True):
        parts = [facts["prune"], facts["finetune"]]
        parts = [facts["model"]] * ("model" in varied) + parts
        parts += [facts["dataset"]] * ("dataset" in varied)
        seed = facts.get("seed")
        parts += [f"seed{seed}"] * ("seed" in varied and seed is not None)
        name = "--".join(re.sub(r"[^A-Za-z0-9._+-]", "_", str(part)) for part in parts)
        if name in found or len(name) > LONGEST:
            name = f"{name[:LONGEST]}--{cell['chain'][-1]['key'][:8]}"
        found.append(name)
    return found
