"""prunegrid's side, and magnitude through a sort; run in a process of its own.

    python ours.py FOLDER WORK RESULT

WORK is "METHOD PATTERN HOW", with HOW a propagation, "sort", or for METHOD "five" "together".
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import measured
import subject
import torch
from torch import Tensor, nn

from prunegrid.pruning.engine import prune_model
from prunegrid.pruning.recipe import Recipe
from prunegrid.pruning.together import prune_together

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
    method, pattern, how = work.split()
    model, tokens = subject.load(folder)
    if method == "five":
        facts, weights = _five(model, tokens, how)
    else:
        job = _job(model, tokens, method, pattern, how)
        facts, weights = _repeated(model, job, REPEATED.get(method, 1))
    subject.save_masks(result.with_suffix(".npz"), weights)
    measured.save(result, {**facts, **subject.outcome(weights, pattern)})


def _job(
    model: nn.Module, tokens: Tensor, method: str, pattern: str, how: str
) -> Callable[[], None]:
    if how == "sort":
        return lambda: _magnitude_by_sort(subject.linears(model), pattern)
    recipe = Recipe(method, "2:4") if pattern == "2:4" else Recipe(method, **HALF)
    return lambda: prune_model(model, recipe, tokens=tokens, propagation=how)


def _repeated(
    model: nn.Module, job: Callable[[], None], times: int
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Return what the fastest of some runs took, each on the dense weights, and the last's."""
    if times == 1:
        return measured.measured(job), subject.linears(model)
    dense = {name: weight.clone() for name, weight in subject.linears(model).items()}
    runs = []
    for _ in range(times):
        for name, weight in subject.linears(model).items():
            weight.copy_(dense[name])
        runs.append(measured.measured(job))
    return min(runs, key=lambda facts: facts["cpu_s"]), subject.linears(model)


def _five(model: nn.Module, tokens: Tensor, how: str) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Return what five cells took together, or one after another; and the last one's weights."""
    if how == "together":
        kept: dict[str, Tensor] = {}

        def keep(place: int, _block: str, weights: dict[str, Tensor]) -> None:
            if place == len(FIVE) - 1:
                kept.update(weights)

        facts = measured.measured(lambda: prune_together(model, FIVE, tokens, keep))
        return facts, kept
    dense = {name: weight.clone() for name, weight in subject.linears(model).items()}

    def each() -> None:
        for recipe in FIVE:
            for name, weight in subject.linears(model).items():
                weight.copy_(dense[name])
            prune_model(model, recipe, tokens=tokens, propagation="sequential")

    return measured.measured(each), subject.linears(model)


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
