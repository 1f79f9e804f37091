"""Sweeps of a study: one pruning at three or more sparsities, a line of a figure.

The other cells are rows of a dot plot. In an iterated grid each arm is a line.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prunegrid.tables.figures import display_names
from prunegrid.tables.figures.points import Cell, Score

LEVELS = 3  # sparsities from which on a pruning is a line
ONE_SHOT, DENSE_TUNED = "one-shot", "dense-tuned"
SPENDING = ("one-shot-tuned", "iterative")  # arms of the same tokens as DENSE_TUNED at each level


@dataclass(frozen=True)
class Sweep:
    """The cells of one line, of all models and data sets.

    `start` holds the unpruned models of the same tuning, at which the line begins; () where it does
    not.
    """

    name: str
    cells: tuple[Cell, ...]
    start: tuple[Cell, ...]


def sweeps_of(cells: Sequence[Cell]) -> list[Sweep]:
    """Return the lines of a study, [] where no pruning has enough sparsities."""
    lines: dict[tuple, list[Cell]] = {}
    for cell in cells:
        for tuning in _tunings(cell, cells) if cell.method != "dense" else ():
            lines.setdefault((cell.method, cell.axes, tuning), []).append(cell)
    lines = {key: own for key, own in lines.items() if _levels(own) >= LEVELS}
    begin_dense = _begin_dense([cell for own in lines.values() for cell in own])
    sweeps = []
    for (key, own), name in zip(lines.items(), _names(list(lines)), strict=True):
        dense = (c for c in cells if c.method == "dense" and key[2] in _tunings(c, cells))
        sweeps.append(Sweep(name, tuple(own), tuple(dense) if begin_dense else ()))
    tuned = tuple(cell for cell in cells if DENSE_TUNED in cell.arms)
    if sweeps and tuned:
        sweeps.append(Sweep(display_names.arm_name(DENSE_TUNED), tuned, ()))
    return sweeps


def _tunings(cell: Cell, cells: Iterable[Cell]) -> tuple[str, ...]:
    """Return which lines' tunings a cell belongs to: its arms, or its fine-tuning."""
    if cell.arms:
        return cell.arms
    if cell.tuned:
        return (cell.finetune,)
    return (ONE_SHOT if any(other.arms for other in cells) else display_names.UNTUNED,)


def _levels(cells: Sequence[Cell]) -> int:
    """Return the most sparsities that one model has on one data set."""
    targets: dict[tuple, set[float]] = {}
    for cell in cells:
        targets.setdefault(cell.place, set()).update([cell.target] if cell.target else [])
    return max(map(len, targets.values()))


def _begin_dense(cells: Sequence[Cell]) -> bool:
    """Return whether the lines begin at the unpruned model: not where most would be empty."""
    targets = [cell.target for cell in cells if cell.target]
    return bool(targets) and min(targets) <= max(targets) / 2


def _names(keys: Sequence[tuple]) -> list[str]:
    """Return a name for each (method, axes, tuning): the method, and what varies beside it."""
    several = len({tuning for _, _, tuning in keys}) > 1
    names = []
    for method, axes, tuning in keys:
        words = [display_names.method_name(method)]
        for index, value in enumerate(axes):
            if value and len({other[index] for name, other, _ in keys if name == method}) > 1:
                words.append(display_names.value_name(value))
        if several:
            untuned = tuning == display_names.UNTUNED
            words.append(tuning if untuned else display_names.arm_name(tuning))
        names.append(", ".join(words))
    return names


def places_of(cell: Cell, cells: Sequence[Cell], scored: Mapping[tuple, Score]) -> list[float]:
    """Return the sparsities that a cell of a sweep stands at.

    A pruned cell stands at its measured one. The dense model that was tuned on k budgets stands
    where pruned cells spend as many tokens, so that both can be compared: at the mean of the
    sparsities measured there, or the asked one where those cells failed; and at 0 without any.

    Args:
        scored: scores of the panel's measure, by cell key.
    """
    if DENSE_TUNED not in cell.arms:
        return [cell.share or 0.0]
    spent: dict[float, None] = {}
    reached: dict[float, list[float]] = {}
    for other in cells:
        if other.place == cell.place and set(other.arms) & set(SPENDING):
            if other.key in scored and other.share is not None:
                reached.setdefault(other.target, []).append(other.share)
            if _at_once(other.finetune) == cell.finetune:
                spent[other.target] = None
    return [statistics.fmean(reached.get(target, [target])) for target in spent] or [
        cell.share or 0.0
    ]


def _at_once(tunings: str) -> str:
    """Return the name of one tuning of as many budgets as a chain has (see `config.grid`)."""
    first, *more = tunings.split("+")
    return f"{first}-x{1 + len(more)}" if more else first
