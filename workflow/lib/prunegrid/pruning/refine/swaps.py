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
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from prunegrid.pruning.input_stats import InputStats
from prunegrid.pruning.patterns import NM, Pattern

CITE = ("zimmer2025sparseswaps",)
NEEDS = "hessian"
OPERATIONS = 45_000.0  # a parameter, for estimates of time
SETTINGS: dict[str, Any] = {"max_swaps": 1000, "candidates": 8}
MEANINGS = {
    "max_swaps": "The most swaps of a row.",
    "candidates": "Kept, and pruned, weights of a row that are looked at for a swap, without N:M.",
}
# Gains below this share of a row's first error are rounding's.
GAIN = 1e-6
# Numbers of a row's state that are worked on at once: they fit a core's own cache.
PART = 1 << 17
# Rows that are done are put aside when so many of those at work are.
DONE = 0.25


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
    before = _errors(dense, kept, gram)
    free = kept.any(1) & (~kept & (weight != 0)).any(1)
    if not free.any():
        return kept, {"swaps": 0, "fallbacks": ["no row has both a kept and a pruned weight"]}
    refined = kept.clone()
    counts = torch.zeros(len(weight), dtype=torch.int64, device=weight.device)
    pairs = _Groups(gram, pattern.group) if isinstance(pattern, NM) else _Rows(gram, candidates)
    step = max(PART // weight.shape[1], 1)
    for start in range(0, len(weight), step):
        part = slice(start, start + step)
        refined[part], counts[part] = _swapped(dense[part], kept[part], pairs, max_swaps)
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


def _swapped(dense: Tensor, kept: Tensor, pairs: _Pairs, most: int) -> tuple[Tensor, Tensor]:
    """Return some rows' refined masks, and how many swaps each made, int64 [rows]."""
    refined, order = torch.empty_like(kept), pairs.order
    counts = torch.zeros(len(kept), dtype=torch.int64, device=kept.device)
    rows, state = torch.arange(len(kept), device=kept.device), pairs.start(dense, kept)
    for swap in range(most + 1):
        gain, columns = pairs.best(state)
        better = (gain < state.least) & (swap < most)
        if int((~better).sum()) >= max(DONE * len(rows), 1):
            refined[rows[~better][:, None], order] = state.kept[~better]
            rows, columns, state = rows[better], columns[better], state.of(better)
            better = better[better]
        if not len(rows):
            break
        counts[rows[better]] += 1
        pairs.swap(state, columns, better)
    return refined, counts


@dataclass
class _State:
    """Some rows on their way, their columns in the order of `_Pairs`: float32 or bool [rows, d_in].

    Attributes:
        dense, kept: their weights and mask.
        own: w_j² G_jj.
        change: what the error changes by where only column j goes to the other side.
        slope: 2 w_j, and −2 w_j of pruned ones: change = own + slope · c.
        least: what a swap's Δ must be below, [rows].
        fixed, allowed: of groups, [rows, pairs, groups]: −2 w_i w_j G_ij of each pair, and the same
            with infinity where both are kept, or both pruned.
    """

    dense: Tensor
    kept: Tensor
    own: Tensor
    change: Tensor
    slope: Tensor
    least: Tensor
    fixed: Tensor
    allowed: Tensor

    def of(self, rows: Tensor) -> _State:
        """Return the state of some of the rows."""
        return _State(*(value[rows] for value in vars(self).values()))


class _Pairs:
    """The swaps that rows may make; `order` is the order of columns in which they are held."""

    def __init__(self, gram: Tensor, order: Tensor) -> None:
        self.order, self.gram = order, gram[order][:, order].contiguous()

    def start(self, dense: Tensor, kept: Tensor) -> _State:
        """Return the state of some rows, [rows, d_in], before any swap."""
        dense, kept = dense[:, self.order], kept[:, self.order]
        gone = dense * ~kept
        products = gone @ self.gram
        own, slope = dense.square() * self.gram.diagonal(), torch.where(kept, 2 * dense, -2 * dense)
        least = -GAIN * (gone * products).sum(1).clamp_(min=0)
        none = dense.new_empty(len(dense), 0)
        return _State(dense, kept, own, own + slope * products, slope, least, none, none)

    def best(self, state: _State) -> tuple[Tensor, Tensor]:
        """Return each row's least Δ [rows], and the two columns of its swap, int64 [rows, 2]."""
        raise NotImplementedError

    def swap(self, state: _State, columns: Tensor, better: Tensor) -> None:
        """Let the rows where `better` is True swap two columns."""
        better = better[:, None]
        weights, kept = state.dense.gather(1, columns), state.kept.gather(1, columns)
        # What a column's going to the other side adds to g.
        lost = torch.where(kept, weights, -weights) * better
        moved = functional.embedding_bag(columns, self.gram, per_sample_weights=lost, mode="sum")
        state.change.addcmul_(state.slope, moved)
        own, change = state.own.gather(1, columns), state.change.gather(1, columns)
        slope = state.slope.gather(1, columns)
        state.change.scatter_(1, columns, torch.where(better, 2 * own - change, change))
        state.slope.scatter_(1, columns, torch.where(better, -slope, slope))
        state.kept.scatter_(1, columns, kept ^ better)


class _Groups(_Pairs):
    """Swaps inside groups of M columns, held as all first members, all second ones, …"""

    def __init__(self, gram: Tensor, size: int) -> None:
        places = torch.arange(len(gram), device=gram.device).view(-1, size).t()
        super().__init__(gram, places.reshape(-1))
        self._groups = places.shape[1]
        pairs = torch.tensor([*itertools.combinations(range(size), 2)], device=gram.device)
        self._first, self._second = pairs.t()
        self._products = -2 * gram[places[self._first], places[self._second]]

    def start(self, dense: Tensor, kept: Tensor) -> _State:
        """Return the state of some rows before any swap, that of their groups' pairs with it."""
        state = super().start(dense, kept)
        members, sides = self._members(state.dense), self._members(state.kept)
        first, second = members[:, self._first], members[:, self._second]
        usable = (first != 0) & (second != 0)
        state.fixed = torch.where(usable, self._products * first * second, torch.inf)
        apart = sides[:, self._first] != sides[:, self._second]
        state.allowed = torch.where(apart, state.fixed, torch.inf)
        return state

    def _members(self, columns: Tensor) -> Tensor:
        """Return the view [rows, M, groups] of [rows, d_in]."""
        return columns.view(len(columns), -1, self._groups)

    def best(self, state: _State) -> tuple[Tensor, Tensor]:
        """Return each row's least Δ [rows], and the two columns of its swap, int64 [rows, 2]."""
        change = self._members(state.change)
        changes = (change[:, self._first] + change[:, self._second]).add_(state.allowed)
        least, place = _least(changes.flatten(1))
        pair, group = place // self._groups, place % self._groups
        members = torch.stack([self._first[pair], self._second[pair]], 1)
        return least, members * self._groups + group[:, None]

    def swap(self, state: _State, columns: Tensor, better: Tensor) -> None:
        """Let the rows where `better` is True swap two columns."""
        super().swap(state, columns, better)
        rows, group = (
            torch.arange(len(columns), device=columns.device),
            columns[:, 0] % self._groups,
        )
        sides = self._members(state.kept)[rows, :, group]
        apart = sides[:, self._first] != sides[:, self._second]
        fixed = state.fixed[rows, :, group]
        state.allowed[rows, :, group] = torch.where(apart, fixed, torch.inf)


class _Rows(_Pairs):
    """Swaps of any two weights of a row, among the `candidates` of each side that promise most."""

    def __init__(self, gram: Tensor, candidates: int) -> None:
        super().__init__(gram, torch.arange(len(gram), device=gram.device))
        self._candidates = min(candidates, len(gram))

    def best(self, state: _State) -> tuple[Tensor, Tensor]:
        """Return each row's least Δ [rows], and the two columns of its swap, int64 [rows, 2]."""
        idle = state.dense == 0
        out, out_change = self._most_promising(state, ~state.kept | idle)
        back, back_change = self._most_promising(state, state.kept | idle)
        gram = self.gram[out[:, :, None], back[:, None, :]]
        weights = state.dense.gather(1, out)[:, :, None] * state.dense.gather(1, back)[:, None, :]
        changes = out_change[:, :, None] + back_change[:, None, :] - 2 * weights * gram
        least, place = _least(changes.flatten(1))
        chosen = [out.gather(1, place[:, None] // out.shape[1])]
        chosen.append(back.gather(1, place[:, None] % out.shape[1]))
        return least, torch.cat(chosen, 1)

    def _most_promising(self, state: _State, barred: Tensor) -> tuple[Tensor, Tensor]:
        """Return the columns, ascending, that change the error least by themselves, and by what."""
        change = state.change.masked_fill(barred, torch.inf)
        columns = (
            change.topk(self._candidates, 1, largest=False, sorted=False).indices.sort(1).values
        )
        return columns, change.gather(1, columns)


def _least(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's least value and its first place."""
    # On a CPU numpy finds it several times as fast.
    on_cpu = values.is_cpu
    place = torch.from_numpy(values.numpy().argmin(1)) if on_cpu else values.argmin(1)
    return values.gather(1, place[:, None])[:, 0], place
