"""Errors of one block's outputs under each method: `layer_errors.py MODEL TOKENS [--block N]`.

Each linear of one block of a real model is pruned by the dense model's inputs. The first table has
the error of each method's own weights, and the CPU seconds that they took. The second one has the
weights that are best under Wanda's mask: the exact solution row by row in float64, `least_squares`,
the same stopped early, and a first-order primal-dual method ended at the tolerance of OPTIMA
(arXiv:2512.13886).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from prunegrid.models.blocks import find_blocks
from prunegrid.pruning.column_sweep import dampened
from prunegrid.pruning.criteria import method_module, method_settings
from prunegrid.pruning.input_stats import InputStats, collect
from prunegrid.pruning.patterns import parse_pattern
from prunegrid.pruning.updates import least_squares

PATTERNS = (("2:4", None), ("unstructured", 0.7))
TEN_STEPS = {"solve_iterations": 10, "tolerance": 0.0}
METHODS = (
    ("Wanda", "wanda", {}),
    ("SparseGPT", "sparsegpt", {}),
    ("ADMM-Grad", "admm", {}),
    ("ALPS, ten steps", "alps", TEN_STEPS),
    ("ALPS, converged", "alps", {}),
)
OPTIMA_TOLERANCE, MOST_ITERATIONS = 1e-2, 1_000


def main() -> None:
    """Print both tables, for each pattern."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a folder that transformers loads")
    parser.add_argument("tokens", type=Path, help="the tokens.safetensors of a calibration")
    parser.add_argument("--block", type=int, default=15)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    weights, stats = _inputs(asked.model, load_file(asked.tokens)["tokens"], asked.block)
    for pattern, sparsity in PATTERNS:
        print(f"\n{pattern} {sparsity or ''}\n")
        _methods(weights, stats, pattern, sparsity)
        _updates(weights, stats, pattern, sparsity)


@torch.no_grad()
def _inputs(
    folder: Path, tokens: Tensor, block: int
) -> tuple[dict[str, Tensor], dict[str, InputStats]]:
    """Return the weights of a block's linears, and the statistics of their inputs."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    blocks = find_blocks(model)
    linears = blocks.linears[blocks.names[block]]
    windows = range(len(tokens))
    stats = collect(linears, "hessian", "cpu", windows, lambda i: model(tokens[i : i + 1]))
    return {name: linear.weight.detach() for name, linear in linears.items()}, stats


def _methods(
    weights: dict[str, Tensor], stats: dict[str, InputStats], pattern: str, sparsity: float | None
) -> None:
    print("| linear |", *(f"{name} |" for name, _, _ in METHODS))
    print("| --- |" + " --- |" * len(METHODS))
    seconds = dict.fromkeys((name for name, _, _ in METHODS), 0.0)
    for linear, weight in weights.items():
        row = []
        for name, method, own in METHODS:
            module, settings = method_module(method), method_settings(method, own)
            parsed = parse_pattern(pattern, sparsity, module.SCOPE)
            start = time.process_time()
            pruned, _ = module.prune_linear(weight, stats[linear], parsed, **settings)
            seconds[name] += time.process_time() - start
            row.append(f"{100 * _error(weight, pruned, stats[linear]):.4f}% |")
        print(f"| {linear.rpartition('.')[2]} |", *row, flush=True)
    print("| CPU seconds |", *(f"{spent:.1f} |" for spent in seconds.values()), "\n")


def _updates(
    weights: dict[str, Tensor], stats: dict[str, InputStats], pattern: str, sparsity: float | None
) -> None:
    def by(tolerance: float) -> Callable[[Tensor, Tensor, InputStats], Tensor]:
        return lambda weight, kept, inputs: least_squares.update_linear(
            weight, kept, inputs, tolerance=tolerance
        )[0]

    ways = {
        "exact": _exact,
        "ours": by(1e-3),
        "ours at 1e-2": by(1e-2),
        "primal-dual": _primal_dual,
    }
    print("| linear | Wanda |", *(f"{name} |" for name in ways), "\n| --- |" + " --- |" * 5)
    wanda = method_module("wanda")
    for linear, weight in weights.items():
        inputs = stats[linear]
        masked, _ = wanda.prune_linear(weight, inputs, parse_pattern(pattern, sparsity, "row"))
        solved = [way(weight, masked != 0, inputs) for way in ways.values()]
        errors = [_error(weight, new, inputs) for new in (masked, *solved)]
        print(
            f"| {linear.rpartition('.')[2]} |", *(f"{100 * e:.4f}% |" for e in errors), flush=True
        )


def _error(weight: Tensor, pruned: Tensor, stats: InputStats) -> float:
    """Return ‖(W' - W) X‖² / ‖W X‖², in float64."""
    hessian = stats.hessian.double()
    sizes = [
        ((w @ hessian) * w).sum() for w in (pruned.double() - weight.double(), weight.double())
    ]
    return float(sizes[0] / sizes[1])


def _problem(stats: InputStats) -> Tensor:
    return dampened(stats.hessian.double(), least_squares.SETTINGS["dampening"])


def _exact(weight: Tensor, kept: Tensor, stats: InputStats) -> Tensor:
    """Return each row's optimum, by a dense solution of its own equations."""
    hessian, exact = _problem(stats), torch.zeros_like(weight, dtype=torch.float64)
    targets = weight.double() @ hessian
    for row, stays in enumerate(kept):
        factor = torch.linalg.cholesky(hessian[stays][:, stays])
        exact[row, stays] = torch.cholesky_solve(targets[row, stays, None], factor)[:, 0]
    return exact


def _primal_dual(weight: Tensor, kept: Tensor, stats: InputStats) -> Tensor:
    """Solve min ½ x H x - w H x, x = 0 where pruned, with multipliers y for that.

    Condat's and Vũ's iteration, of all rows at once, on the Hessian with a diagonal of 1. It ends
    where both residuals are below the tolerance, relative to ‖w‖ and ‖w H‖, or after
    MOST_ITERATIONS.
    """
    hessian = _problem(stats)
    scale = hessian.diagonal().sqrt()
    hessian = (hessian / scale / scale[:, None]).float()
    dense, pruned = weight * scale.float(), (~kept).float()
    target = dense @ hessian
    step = 1 / (float(torch.linalg.eigvalsh(hessian)[-1]) / 2 + 1)
    x, multipliers = dense.clone(), torch.zeros_like(dense)
    violated, done = 1.0, 0
    while done < MOST_ITERATIONS:
        slope = x @ hessian - target + multipliers * pruned
        violated = float((x * pruned).norm() / dense.norm())
        if max(violated, slope.norm() / target.norm()) <= OPTIMA_TOLERANCE:
            break
        new = x - step * slope
        multipliers += pruned * (2 * new - x)
        x, done = new, done + 1
    print(f"<!-- primal-dual: {done} iterations, constraint at {violated:.2g} -->")
    return (x * kept).double() / scale


if __name__ == "__main__":
    main()
