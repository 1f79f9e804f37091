"""Checks of a census: what its cells end in can be counted, and their steps have what they need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prunegrid.common import plugins
from prunegrid.config.cells import Cell
from prunegrid.config.fault import Fault

if TYPE_CHECKING:
    from prunegrid.config.validated import Config


def faults(config: Config, cells: Sequence[Cell]) -> Iterator[Fault]:
    """Yield the faults of a census, each once.

    Args:
        cells: all of its grid.
    """
    told: set[str] = set()
    for cell in cells:
        for text in _of_cell(config, cell):
            if text not in told:
                told.add(text)
                yield Fault(("grid",), text)


def _of_cell(config: Config, cell: Cell) -> Iterator[str]:
    acting = [step for step in cell.steps if not step.idle]
    if acting and acting[-1].kind == "finetune" and not acting[-1].profile.plain:
        yield (
            f"ends in {acting[-1].name}, whose weights are packed or have an adapter beside "
            "them; a census counts plain weights"
        )
    tokens = [step.name for step in acting if step.profile.calibration is not None]
    for step in acting:
        if step.kind == "finetune" and plugins.strategy_facts(step.profile.strategy)["TRAINS"]:
            tokens.append(step.name)
            if cell.dataset is None:
                yield f"tunes ({step.name}) on no data set; name it in the study's `dataset`"
    if tokens and not config.sections["models"][cell.model].tokenizer:
        yield f"has {tokens[0]} on the model '{cell.model}', which has no tokenizer"
