"""prunegrid's side, and magnitude through a sort; run in a process of its own.

    python ours.py FOLDER WORK RESULT

WORK is "METHOD PATTERN HOW", with HOW a propagation, "sort", "stored" (by Hessians on disk), for
METHOD "five" "together", or for METHOD "reconstruct" its grain. METHOD "swaps" is Wanda's mask,
refined by them.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measured
import subject
import torch
from torch import Tensor, nn

from prunegrid.finetuning import part_refit
from prunegrid.finetuning.strategies import reconstruct
from prunegrid.models.blocks import find_blocks
from prunegrid.models.zero_masks import keep_masks
from prunegrid.pruning.dense_statistics import StoredHessians, write_hessians
from prunegrid.pruning.layerwise import prune_model
from prunegrid.pruning.recipe import Recipe

HALF = {"pattern": "unstructured", "sparsity": 0.5}
FIVE = (
    Recipe("wanda", **HALF),
    Recipe("wanda", "4:8"),
    Recipe("wanda", "2:4"),
    Recipe("magnitude", "2:4"),
    Recipe("sparsegpt", "2:4"),
)
# So short that one run says little.
REPEATED = {"magnitude": 5}


def main(folder: Path, work: str, result: Path) -> None:
    """Do the work and write what it took and what came out."""
    torch.set_num_threads(1)
    model, tokens = subject.load(folder)
    method, pattern, _ = work.split()
    facts, pruned = _fastest(model, job(model, tokens, work), REPEATED.get(method, 1))
    subject.save_masks(result.with_suffix(".npz"), pruned)
    measured.save(result, {**facts, **subject.outcome(pruned, pattern)})


def job(model: nn.Module, tokens: Tensor, work: str) -> Callable[[], dict[str, Tensor]]:
    """Return a function that does the work once and gives the pruned weights [d_out, d_in].

    Args:
        model: dense, on any device; all works but "together" change it.
        tokens: int64 [samples, length].
        work: "METHOD PATTERN HOW"; of five cells the last one's weights are given.
    """
    method, pattern, how = work.split()
    if how == "together":
        return _shared(model, tokens)
    if method == "five":
        return _one_after_another(model, tokens, how)
    if method == "reconstruct":
        return _refitted(model, tokens, how)
    criterion = {"method": "wanda", "refine": "swaps"} if method == "swaps" else {"method": method}
    recipe = Recipe(**criterion, **({"pattern": "2:4"} if pattern == "2:4" else HALF))
    held = _hessians(model, tokens) if how == "stored" else {}

    def do() -> dict[str, Tensor]:
        if how == "sort":
            _magnitude_by_sort(subject.linears(model), pattern)
        elif how == "stored":
            prune_model(model, recipe, tokens=tokens, propagation="dense", **held["given"])
        else:
            prune_model(model, recipe, tokens=tokens, propagation=how)
        return subject.linears(model)

    return do


def restore(model: nn.Module, dense: dict[str, Tensor]) -> None:
    """Set the linears' weights to copies that were taken of them, in place."""
    for name, weight in subject.linears(model).items():
        weight.copy_(dense[name])


def copies(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the linears' weights."""
    return {name: weight.clone() for name, weight in subject.linears(model).items()}


def _fastest(
    model: nn.Module, do: Callable[[], dict[str, Tensor]], times: int
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Return what the fastest of some runs took, each on the dense weights, and the last's."""
    dense = copies(model) if times > 1 else {}
    runs, pruned = [], {}
    for turn in range(times):
        if turn:
            restore(model, dense)
        runs.append(measured.measured(lambda: pruned.update(do())))
    return min(runs, key=lambda facts: facts["cpu_s"]), pruned


def _shared(model: nn.Module, tokens: Tensor) -> Callable[[], dict[str, Tensor]]:
    """Return a function that prunes five cells by Hessians measured once, and gives the last's."""
    dense = copies(model)

    def do() -> dict[str, Tensor]:
        restore(model, dense)
        held = _hessians(model, tokens)
        for recipe in FIVE:
            restore(model, dense)
            prune_model(model, recipe, tokens=tokens, propagation="dense", **held["given"])
        return subject.linears(model)

    return do


def _hessians(model: nn.Module, tokens: Tensor) -> dict[str, Any]:
    """Return what `prune_model` is given of Hessians on disk, and the folder that holds them."""
    folder = tempfile.TemporaryDirectory()
    write_hessians(model, tokens, Path(folder.name))
    stored = StoredHessians(Path(folder.name))
    blocks = range(len(find_blocks(model).names))
    norms = {n: s.input_norms for i in blocks for n, s in stored.block(i, False).items()}
    return {"given": {"hessians": stored, "norms": norms}, "folder": folder}


def _one_after_another(
    model: nn.Module, tokens: Tensor, how: str
) -> Callable[[], dict[str, Tensor]]:
    """Return a function that prunes five cells and gives the last one's weights."""
    dense = copies(model)

    def do() -> dict[str, Tensor]:
        for recipe in FIVE:
            restore(model, dense)
            prune_model(model, recipe, tokens=tokens, propagation=how)
        return subject.linears(model)

    return do


def _refitted(model: nn.Module, tokens: Tensor, grain: str) -> Callable[[], dict[str, Tensor]]:
    """Return a function that refits a cell of magnitude 2:4, which is pruned before it."""
    dense, settings = copy.deepcopy(model), reconstruct.SETTINGS
    prune_model(model, Recipe("magnitude", "2:4"))
    masks = keep_masks(model, "2:4")
    own = {name: settings[name] for name in reconstruct.CHOICES["grain"][grain]}

    def do() -> dict[str, Tensor]:
        given = (model, dense, tokens, masks, "benchmark")
        if grain == "linear":
            reconstruct.refit(*given, **own)
        else:
            part_refit.refit(*given, grain=grain, budget=part_refit.Budget(**own), seed=0)
        return subject.linears(model)

    return do


@torch.no_grad()
def _magnitude_by_sort(weights: dict[str, Tensor], pattern: str) -> None:
    """Prune as the papers' drivers do: one sort of all |W|, or the lowest two of every four."""
    for weight in weights.values():
        scores = weight.abs()
        if pattern == "2:4":
            gone = torch.zeros_like(scores, dtype=torch.bool)
            for first in range(0, scores.shape[1], 4):
                lowest = torch.topk(scores[:, first : first + 4], 2, dim=1, largest=False)[1]
                gone.scatter_(1, first + lowest, True)
        else:
            threshold = torch.sort(scores.flatten())[0][scores.numel() // 2 - 1]
            gone = scores <= threshold
        weight[gone] = 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
