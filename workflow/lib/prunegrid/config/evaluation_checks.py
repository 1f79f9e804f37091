"""Checks that the models of a study fit its evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prunegrid.config.evaluations import fits, kinds
from prunegrid.config.fault import Fault

if TYPE_CHECKING:
    from prunegrid.config.validated import Config


def model_faults(
    config: Config, evaluations: Sequence[str], models: Sequence[str]
) -> Iterator[Fault]:
    """Yield the faults of a study's models: each is asked something, and has a tokenizer.

    Args:
        evaluations: of the study; names.
        models: of its grid; names.
    """
    named = {name: config.sections["evaluations"].get(name) for name in evaluations}
    tasks = {name: config.sections["models"][name].task for name in models}
    if None in named.values():  # told already
        return
    for name, task in tasks.items():
        if not any(fits(evaluation, task) for evaluation in named.values()):
            fitting = ", ".join(sorted(kind for kind, of in kinds().items() if task in of.FITS))
            text = f"has the model '{name}', of the task {task}, which none of its evaluations "
            yield Fault(("grid",), f"{text}asks; {fitting} would")
        if not config.sections["models"][name].tokenizer:
            yield Fault(("grid",), f"has the model '{name}', which has no tokenizer")
    for name, evaluation in named.items():
        if tasks and not any(fits(evaluation, task) for task in tasks.values()):
            asked = " or ".join(evaluation.FITS)
            text = f"names '{name}', of kind {evaluation.kind}, which asks models of the task "
            yield Fault(("evaluations",), f"{text}{asked}; the grid has none")
