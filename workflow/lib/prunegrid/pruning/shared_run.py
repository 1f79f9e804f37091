"""Cells that share a dense model's Hessians, pruned in one job and adopted by their own.

The leader's job prunes all of them block by block and writes each one's blocks as they come: its
own artifact's and, prepared in the scratch of their jobs, those of the others.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.pruning.offload import Dense
from prunegrid.pruning.recipe import Recipe
from prunegrid.pruning.shared_statistics import prune_together

log = logging.getLogger(__name__)

# Written last: where it is, the prepared folder is whole.
RECORD = "record.json"


@dataclass(frozen=True)
class Cell:
    """One of the cells: its recipe, the folder to write, a label for errors."""

    recipe: Recipe
    out: Path
    where: str


def place(scratch: Path) -> Path:
    """Return the folder inside a job's scratch where its artifact is prepared by another job."""
    return scratch / "prepared"


def adopt(scratch: Path, out: Path) -> dict | None:
    """Return the record of a prepared artifact after moving its files to `out`; None without.

    One of another user's run that may not be read here counts as none.
    """
    prepared = place(scratch)
    if not (prepared / RECORD).exists():
        return None
    if not all(os.access(path, os.R_OK) for path in prepared.iterdir()):
        log.warning("%s may not be read: pruning anew", prepared)
        return None
    record = file_io.read_json(prepared / RECORD)
    for path in sorted(prepared.iterdir()):
        if path.name != RECORD:
            os.replace(path, out / path.name)
    shutil.rmtree(prepared)
    log.info("adopted what the job of a companion prepared")
    return record


def run(
    parent: Dense,
    cells: Sequence[Cell],
    finish: Callable[[Cell, dict, dict, float], dict],
    *,
    tokens: Tensor,
    norms: dict[str, Tensor],
) -> dict:
    """Return the record of the first cell, after preparing the others.

    Args:
        parent: the dense model; it is not changed.
        cells: the job's own first; the others' `out` are made here.
        finish: given a cell, its report, its WEIGHTS RECORD and seconds, returns its record.
        tokens: calibration windows, int64 [samples, length].
        norms: mean x² of the dense model by full linear name.
    """
    began = time.perf_counter()
    for cell in cells[1:]:
        shutil.rmtree(cell.out, ignore_errors=True)
        cell.out.mkdir(parents=True)
    writers = [parent.writer(cell.out, cell.recipe.extent) for cell in cells]
    reports = prune_together(
        parent.model,
        [cell.recipe for cell in cells],
        tokens,
        lambda number, block, weights: writers[number].add_block(block, weights),
        norms=norms,
        holding=parent.holding,
    )
    seconds = (time.perf_counter() - began) / len(cells)
    records = []
    for cell, report, shards in zip(cells, reports, writers, strict=True):
        weights = shards.finish(cell.recipe.pattern)
        shared = {"statistics_shared_by": len(cells)}
        records.append(finish(cell, report, weights, seconds) | shared)
        if len(records) > 1:
            artifact_folder.open_to_umask(cell.out)
            file_io.write_json(cell.out / RECORD, records[-1])
    return records[0]
