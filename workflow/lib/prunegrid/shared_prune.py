"""Cells that share a dense model's Hessians, pruned in one job and adopted by their own.

The leader's job prunes all of them block by block, keeps each one's pruned blocks on disk, and
writes its own artifact and, prepared in the scratch of their jobs, those of the others.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prunegrid import artifacts
from prunegrid.blocks import oriented, prunable
from prunegrid.pruning.recipe import Recipe
from prunegrid.pruning.together import prune_together

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
    """Return the record of a prepared artifact after moving its files to `out`; None without."""
    prepared = place(scratch)
    if not (prepared / RECORD).exists():
        return None
    record = artifacts.read_json(prepared / RECORD)
    for path in sorted(prepared.iterdir()):
        if path.name != RECORD:
            os.replace(path, out / path.name)
    shutil.rmtree(prepared)
    log.info("adopted what the job of a companion prepared")
    return record


def run(
    model: nn.Module,
    cells: Sequence[Cell],
    tokens: Tensor,
    norms: dict[str, Tensor],
    scratch: Path,
    finish: Callable[[Cell, dict, float], dict],
) -> dict:
    """Return the record of the first cell, after preparing the others.

    Args:
        model: dense, on its device; holds the last cell's weights afterwards.
        cells: the job's own first; the others' `out` are made here.
        tokens: calibration windows, int64 [samples, length].
        norms: mean x² of the dense model by full linear name.
        scratch: where pruned blocks are kept meanwhile.
        finish: writes a cell's artifact from the model as it then is; returns the record.
    """
    began = time.perf_counter()
    kept = scratch / "blocks"
    shutil.rmtree(kept, ignore_errors=True)
    counts = [0] * len(cells)

    def keep(number: int, weights: dict[str, Tensor]) -> None:
        folder = kept / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        # Three digits sort for up to a thousand blocks; the order plays no part.
        plain = {name: weight.cpu().contiguous() for name, weight in weights.items()}
        save_file(plain, folder / f"{counts[number]:03}.safetensors")
        counts[number] += 1

    reports = prune_together(model, [cell.recipe for cell in cells], tokens, keep, norms=norms)
    seconds = (time.perf_counter() - began) / len(cells)
    records = []
    for number, (cell, report) in enumerate(zip(cells, reports, strict=True)):
        _load(model, kept / str(number))
        if number:
            shutil.rmtree(cell.out, ignore_errors=True)
            cell.out.mkdir(parents=True)
        records.append(finish(cell, report, seconds) | {"statistics_shared_by": len(cells)})
        if number:
            artifacts.write_json(cell.out / RECORD, records[-1])
    shutil.rmtree(kept)
    return records[0]


@torch.no_grad()
def _load(model: nn.Module, folder: Path) -> None:
    """Put a cell's pruned blocks into the model; every cell prunes the same linears."""
    linears = prunable(model)
    for path in sorted(folder.glob("*.safetensors")):
        for name, weight in load_file(path).items():
            oriented(linears[name]).copy_(weight)
