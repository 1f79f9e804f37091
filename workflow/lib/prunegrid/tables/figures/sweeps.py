"""Which cells of a study are points of a sweep: one pruning at three or more sparsities.

A sweep is a line of a figure; the other cells are rows of a dot plot. In an iterated grid each arm
is a line.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prunegrid.tables.figures import display_names
from prunegrid.tables.figures.points import AXES, Cell, Score

LEVELS = 3  # sparsities from which on a pruning is a line
ONE_SHOT, DENSE_TUNED = "one-shot", "dense-tuned"
SPENDING = ("one-shot-tuned", "iterative")  # arms of the same tokens as DENSE_TUNED at each level


@dataclass(frozen=True)
class Sweep:
    """The cells of one line, of all models and data sets.

    Attributes:
        name: what it is called.
        cells: of the pruning itself.
        start: the unpruned models of the same tuning, where the line begins; () where it does not.
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
    starts = _begin_dense([cell for own in lines.values() for cell in own])
    names = _names(list(lines))
    found = []
    for (key, own), name in zip(lines.items(), names, strict=True):
        dense = [c for c in cells if c.method == "dense" and key[2] in _tunings(c, cells)]
        found.append(Sweep(name, tuple(own), tuple(dense) if starts else ()))
    tuned = tuple(cell for cell in cells if DENSE_TUNED in cell.arms)
    return (
        [*found, Sweep(display_names.arm_name(DENSE_TUNED), tuned, ())]
        if found and tuned
        else found
    )


def _tunings(cell: Cell, cells: Iterable[Cell]) -> tuple[str, ...]:
    """Return which lines' tunings a cell belongs to: its arms, or its fine-tuning."""
    if cell.arms:
        return cell.arms
    if cell.tuned:
        return (cell.finetune,)
    return (ONE_SHOT if any(other.arms for other in cells) else display_names.UNTUNED,)


def _levels(cells: Sequence[Cell]) -> int:
    """Return the most sparsities that one model has on one data set."""
    places = {(cell.model, cell.dataset) for cell in cells}
    return max(
        len({c.target for c in cells if (c.model, c.dataset) == place and c.target})
        for place in places
    )


def _begin_dense(cells: Sequence[Cell]) -> bool:
    """Return whether the lines begin at the unpruned model: not where most would be empty."""
    targets = [cell.target for cell in cells if cell.target]
    return bool(targets) and min(targets) <= max(targets) / 2


def _names(keys: Sequence[tuple]) -> list[str]:
    """Return a name for each (method, axes, tuning): the method, and what varies beside it."""
    tunings = {tuning for _, _, tuning in keys}
    found = []
    for method, axes, tuning in keys:
        words = [display_names.method_name(method)]
        alike = [other for name, other, _ in keys if name == method]
        for index, _ in enumerate(AXES):
            if len({other[index] for other in alike}) > 1 and axes[index]:
                words.append(display_names.value_name(axes[index]))
        if len(tunings) > 1:
            words.append(
                tuning if tuning == display_names.UNTUNED else display_names.arm_name(tuning)
            )
        found.append(", ".join(words))
    return found


def places_of(cell: Cell, cells: Sequence[Cell], scored: Mapping[tuple, Score]) -> list[float]:
    """Return the sparsities that a cell of a sweep stands at.

    A pruned cell stands at its measured one. The dense model that was tuned on k budgets stands
    where pruned cells spend as many tokens, so that both can be compared: at the mean of the
    sparsities measured there, or the asked one where those cells failed; and at 0 without any.

    Args:
        cells: all of the study.
        scored: scores of the panel's measure, by cell key.
    """
    if DENSE_TUNED not in cell.arms:
        return [0.0 if cell.share is None else cell.share]
    spent: dict[float, list[float]] = {}
    reached: dict[float, list[float]] = {}
    for other in cells:
        alike = (other.model, other.dataset) == (cell.model, cell.dataset)
        if alike and set(other.arms) & set(SPENDING):
            if other.key in scored and other.share is not None:
                reached.setdefault(other.target, []).append(other.share)
            if _at_once(other.finetune) == cell.finetune:
                spent[other.target] = []
    levels = [(target, reached.get(target)) for target in spent]
    found = [statistics.fmean(shares) if shares else target for target, shares in levels]
    return found or [0.0 if cell.share is None else cell.share]


def _at_once(tunings: str) -> str:
    """Return the name of one tuning of as many budgets as a chain has (see `config.grid`)."""
    first, *more = tunings.split("+")
    return f"{first}-x{1 + len(more)}" if more else first
