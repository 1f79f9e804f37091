"""Swaps of a kept weight for a pruned one, as long as one lowers the error of the linear's output.

After SparseSwaps (arXiv:2512.10922), which refines any mask row by row on the Gram matrix of the
linear's inputs. With G the Hessian, w a row and g its pruned weights (w where pruned, 0 elsewhere),
the row's error is L = g G gᵀ. To prune p and restore u changes it by

    Δ(p, u) = w_p² G_pp + 2 w_p c_p + w_u² G_uu − 2 w_u c_u − 2 w_p w_u G_pu,   c = g G

A row makes the swap with the least Δ, again and again, until none lowers its error. For N:M a pair
lies in one group of M; else it lies anywhere in the row. So a row and a group keep as many weights
as before, and the error never rises. Of equal swaps that with the lowest columns is made.

Deviations: without a pattern a row looks at the `candidates` kept and pruned weights whose own
change of the error is the least, and not at all pairs of the row; a swap counts if it lowers the
row's error by more than 1e-6 of what it was at the start, since smaller gains are rounding's; a
weight that was zero before pruning is not restored; the formula of Δ is derived here, as the
authors have published no code.

The swaps themselves are compiled loops on the CPU (`pruning/swap_loops.py`), with as many threads
as torch has. A GPU's tensors are taken there and back; errors are computed where they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from prunegrid.pruning.input_stats import InputStats
from prunegrid.pruning.patterns import NM, Pattern

CITE = ("zimmer2025sparseswaps",)
NEEDS = "hessian"
PACKAGES = ("numba", "llvmlite")
OPERATIONS = 8_000.0  # a parameter, for estimates of time
SETTINGS: dict[str, Any] = {"max_swaps": 1000, "candidates": 8}
MEANINGS = {
    "max_swaps": "The most swaps of a row.",
    "candidates": "Kept, and pruned, weights of a row that are looked at for a swap, without N:M.",
}
# Gains below this share of a row's first error are rounding's.
GAIN = 1e-6


def refine_mask(
    weight: Tensor,
    kept: Tensor,
    stats: InputStats,
    pattern: Pattern,
    *,
    max_swaps: int = 1000,
    candidates: int = 8,
) -> tuple[Tensor, dict[str, Any]]:
    """Return the refined mask, bool [d_out, d_in], and facts of the linear.

    Facts are {swaps, cut_short (rows that `max_swaps` stopped), error_before, error_after (of the
    linear's output, as shares of its own square), and fallbacks where nothing can be swapped}.

    Args:
        weight: [d_out, d_in], before pruning.
        kept: bool [d_out, d_in], True = kept.
        max_swaps: of a row, at least 0.
        candidates: at least 1.
    """
    dense, gram = weight.float(), stats.hessian
    kept = kept & (weight != 0)
    gone = dense * ~kept
    products = gone @ gram
    before = (products * gone).sum(1, dtype=torch.float64).clamp_(min=0)
    free = kept.any(1) & (~kept & (weight != 0)).any(1)
    if not free.any():
        return kept, {"swaps": 0, "fallbacks": ["no row has both a kept and a pruned weight"]}
    counts = torch.zeros(len(weight), dtype=torch.int64)
    # What a swap's Δ must be below.
    least = (-GAIN * before).float().cpu()
    given = [values.cpu().contiguous() for values in (dense, kept, products, gram)]
    if isinstance(pattern, NM):
        refined = by_groups(*given, pattern.group, (least, max_swaps, counts))
    else:
        refined = by_rows(*given, candidates, (least, max_swaps, counts))
    refined, counts = refined.to(weight.device), counts.to(weight.device)
    after = _errors(dense, refined, gram)
    # Never worse, even by rounding.
    worse = after > before
    refined[worse], after[worse], counts[worse] = kept[worse], before[worse], 0
    whole = _errors(dense, torch.zeros_like(kept), gram).sum()
    return refined, {
        "swaps": int(counts.sum()),
        "cut_short": int((counts >= max_swaps).sum()),
        "error_before": _share(before, whole),
        "error_after": _share(after, whole),
    }


def _errors(dense: Tensor, kept: Tensor, gram: Tensor) -> Tensor:
    """Return each row's error under a mask, float64 [d_out]."""
    gone = dense * ~kept
    return ((gone @ gram) * gone).sum(1, dtype=torch.float64).clamp_(min=0)


def _share(errors: Tensor, whole: Tensor) -> float | None:
    return float(f"{float(errors.sum() / whole):.4g}") if whole > 0 else None


def by_groups(
    dense: Tensor, kept: Tensor, products: Tensor, gram: Tensor, size: int, ends: tuple
) -> Tensor:
    """Return the mask after swaps inside groups; `ends` is (least, most, counts) of the loops."""
    from prunegrid.pruning import swap_loops

    width, groups = len(gram), len(gram) // size
    # Groups lie side by side: all first members, all second ones, …
    places = torch.arange(width).view(-1, size).t()
    order = places.reshape(-1)
    first, second = torch.tensor([*itertools.combinations(range(size), 2)]).t()
    cross = -2 * gram[places[first], places[second]]
    moved = gram.view(groups, size, groups, size).permute(1, 0, 3, 2).reshape(width, width)
    rows = [values[:, order] for values in (dense, kept, products)]
    _run(swap_loops.by_groups, rows, (moved, moved.diagonal(), cross, first, second), ends)
    refined = torch.empty_like(kept)
    refined[:, order] = rows[1]
    return refined


def by_rows(
    dense: Tensor, kept: Tensor, products: Tensor, gram: Tensor, candidates: int, ends: tuple
) -> Tensor:
    """Return the mask after swaps of any two of a row; `ends` as of `by_groups`."""
    from prunegrid.pruning import swap_loops

    rows, most = [dense, kept.clone(), products], min(candidates, len(gram))
    _run(swap_loops.by_rows, rows, (gram, gram.diagonal(), most), ends)
    return rows[1]


def _run(loop: Callable, rows: list[Tensor], shared: tuple, ends: tuple) -> None:
    """Run a compiled loop on parts of the rows, a thread each: no row depends on another."""
    least, most, counts = ends
    numbers = [v.contiguous().numpy() if isinstance(v, Tensor) else v for v in shared]
    threads = torch.get_num_threads()
    step = -(-len(counts) // threads)

    def run(start: int) -> None:
        part = slice(start, start + step)
        own = [values[part].numpy() for values in rows]
        loop(*own, *numbers, least[part].numpy(), most, counts[part].numpy())

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(0, len(counts), step)))
