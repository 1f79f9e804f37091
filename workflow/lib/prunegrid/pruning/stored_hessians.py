"""Hessians of a dense model on disk: one file a block, each distinct input once, one triangle.

They are measured once for a model and a calibration, and read block by block by every cell that
prunes the dense model by them (`propagation: dense`). A Hessian [d, d] is kept as the panels of its
lower triangle, rows `start` to `start + PANEL` up to column `start + PANEL`, float32: about half of
it. It is symmetric to the bit (`prunegrid.pruning.input_stats`), so what is read is what was
measured.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from prunegrid.common.errors import PrunegridError
from prunegrid.pruning.input_stats import PANEL, InputStats

OUTSIDE = "outside"


def write(stats: Mapping[str, InputStats], out: Path, name: str) -> int:
    """Write the statistics of some linears to a file; return the number of linears.

    Args:
        stats: full linear name → statistics with a Hessian; a shared object is written once.
        out: the folder.
        name: a block's index, or OUTSIDE.
    """
    places: dict[int, int] = {}
    tensors: dict[str, Tensor] = {}
    linears: dict[str, int] = {}
    for linear, inputs in stats.items():
        place = linears[linear] = places.setdefault(id(inputs), len(places))
        if f"norms.{place}" not in tensors:
            tensors[f"norms.{place}"] = inputs.input_norms.cpu()
            tensors[f"hessian.{place}"] = _panels(inputs.hessian).cpu()
            tensors[f"tokens.{place}"] = torch.tensor(inputs.tokens)
    save_file(tensors, out / f"{name}.safetensors", {"linears": json.dumps(linears)})
    return len(linears)


def _panels(hessian: Tensor) -> Tensor:
    """Return the panels of the lower triangle of [d, d], one after the other."""
    starts = range(0, len(hessian), PANEL)
    return torch.cat([hessian[s : s + PANEL, : s + PANEL].reshape(-1) for s in starts])


def _whole(panels: Tensor, width: int) -> Tensor:
    """Return the Hessian [width, width] of its panels."""
    hessian = panels.new_empty(width, width)
    place = 0
    for start in range(0, width, PANEL):
        end = min(start + PANEL, width)
        size = (end - start) * end
        rows = panels[place : place + size].reshape(end - start, end)
        hessian[start:end, :end] = rows
        hessian[:start, start:end] = rows[:, :start].t()
        place += size
    return hessian


class StoredHessians:
    """Reads the Hessians of a model.

    Args:
        folder: the artifact.
        device: where the statistics are wanted.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self._folder, self._device = Path(folder), device

    def block(self, name: int | str, hessian: bool = True) -> dict[str, InputStats]:
        """Return full linear name → statistics of a block; linears of one input share the object.

        Args:
            name: a block's index, or OUTSIDE.
            hessian: False reads the norms alone.

        Raises:
            PrunegridError: the block was not measured.
        """
        path = self._folder / f"{name}.safetensors"
        if not path.exists():
            raise PrunegridError(
                "there are no Hessians of these linears", where=str(path), expected="a file a block"
            )
        with safe_open(path, framework="pt", device=self._device) as handle:

            @functools.cache
            def stats(place: int) -> InputStats:
                norms = handle.get_tensor(f"norms.{place}")
                tokens = int(handle.get_tensor(f"tokens.{place}"))
                if not hessian:
                    return InputStats(tokens, norms)
                panels = handle.get_tensor(f"hessian.{place}")
                return InputStats(tokens, norms, _whole(panels, len(norms)))

            linears = json.loads(handle.metadata()["linears"])
            return {linear: stats(place) for linear, place in linears.items()}
