"""Choosing cells of a study by what they are: the sides of contrasts, the cells that are timed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prunegrid.config import profiles
from prunegrid.config.cells import Cell
from prunegrid.config.fault import Fault

if TYPE_CHECKING:
    from prunegrid.config.validated import Config

# What a side may name, and the sections of the names.
_SECTIONS = {"model": "models", "dataset": "datasets", "prune": "prune", "finetune": "finetune"}


def facts(cell: Cell) -> dict[str, Any]:
    """Return what a selector may name of a cell."""
    return {
        "model": cell.model,
        "dataset": cell.dataset,
        "prune": cell.names("prune"),
        "finetune": cell.names("finetune"),
        "seed": cell.seed,
    }


def chosen(side: profiles.Side, cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells that have all of what a selector names."""
    wanted = side.model_dump(exclude_unset=True)
    return [
        cell
        for cell in cells
        if all(
            facts(cell)[key] in (value if isinstance(value, list) else [value])
            for key, value in wanted.items()
        )
    ]


def is_timed(study: profiles.Study, cell: Cell) -> bool:
    """Return whether a study that times its cells times this one: all, unless it names some."""
    return study.timed is None or any(chosen(side, [cell]) for side in study.timed)


def is_broken(config: Config, side: profiles.Side, raw: Mapping[str, Any]) -> bool:
    """Return whether a selector names a profile that stands in the config but is not valid."""
    for key, section in _SECTIONS.items():
        written = raw.get(section)
        written = set(written) if isinstance(written, Mapping) else set()
        if set((getattr(side, key) or "").split("+")) & (written - set(config.sections[section])):
            return True
    return False


def faults(
    config: Config, study: profiles.Study, cells: Sequence[Cell], raw: Mapping[str, Any]
) -> Iterator[Fault]:
    """Yield the faults of a study's `timed`.

    Args:
        cells: all of its grid.
        raw: the unvalidated config.
    """
    if study.timed is None:
        return
    if study.efficiency is None:
        yield Fault(("timed",), "is not used without `efficiency`; add that, or remove it")
    for index, side in enumerate(study.timed):
        if not chosen(side, cells) and not is_broken(config, side, raw):
            named = ", ".join(f"{k}: {v}" for k, v in side.model_dump(exclude_unset=True).items())
            yield Fault(("timed", index), f"chooses no cell of the grid ({named})")
