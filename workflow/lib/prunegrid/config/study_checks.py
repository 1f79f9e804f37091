"""Checks of a study: its names exist, its cells can run, and its evaluations fit them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prunegrid.common.errors import nearest
from prunegrid.common.model_family import CRITERIA, STAGES, STRATEGIES, unfit, unfit_learning
from prunegrid.config import contrasts, default_calibration, local_checks, shown, split_checks
from prunegrid.config.cells import Cell
from prunegrid.config.evaluations import kinds
from prunegrid.config.fault import Fault, GridError, below, unknown
from prunegrid.config.grid import expand
from prunegrid.config.step_checks import finetune_faults, prune_faults
from prunegrid.config.studies import Census, Study
from prunegrid.config.validated import Config


def faults(config: Config, name: str, study: Study | Census) -> Iterator[Fault]:
    """Yield the faults of a study, keys below it."""
    yield from unknown(config, ("dataset",), "datasets", study.dataset)
    yield from unknown(config, ("efficiency",), "efficiency", study.efficiency)
    for evaluation in study.evaluations:
        yield from unknown(config, ("evaluations",), "evaluations", evaluation)
    yield from _shared_splits(config, study)
    yield from contrasts.faults_of_scores(config, study)
    yield from shown.faults(config, study)
    try:
        cells = expand(config, name)
    except GridError as error:
        yield from error.faults
        return
    inline = {step.identity: step for cell in cells for step in cell.steps if step.inline}
    for step in inline.values():
        check = prune_faults if step.kind == "prune" else finetune_faults
        yield from below((f"grid ({step.kind} {step.name})",), check(config, step.profile))
    if default_calibration.gives(config):  # if not, each step has the fault
        yield from dict.fromkeys(_uncalibrated(cells))
    yield from _rows(cells)
    yield from dict.fromkeys(fault for cell in cells for fault in _misfits(config, cell))
    if _lacks_cells(config, study):
        return
    if not cells:
        yield Fault((), "has no cell: its grid is empty or all of it is excluded")
    if study.kind == "census":
        texts = (text for cell in cells for text in _uncounted(config, cell))
        for text in dict.fromkeys(texts):
            yield Fault(("grid",), text)
    else:
        yield from _unfit(config, study, sorted({cell.model for cell in cells}))
    yield from _timed(config, study, cells)
    yield from local_checks.of_study(config, study, cells)
    yield from split_checks.faults(config, study, cells)
    yield from contrasts.faults_of_cells(config, study, cells)
    yield from _unknown_values(study, cells)


def _shared_splits(config: Config, study: Study | Census) -> Iterator[Fault]:
    """Yield a fault if two evaluations would fill the same columns of the table."""
    seen: dict[str, str] = {}
    for name in dict.fromkeys(study.evaluations):
        evaluation = config.sections["evaluations"].get(name)
        for split in evaluation.measures(config, name) if evaluation else ():
            if seen.setdefault(split, name) != name:
                text = f"both {seen[split]} and {name} are of the split '{split}'; "
                yield Fault(("evaluations",), text + "rename one, or put them into two studies")


def _uncalibrated(cells: Sequence[Cell]) -> Iterator[Fault]:
    """Yield a fault for each pruning step whose calibration neither it nor its data set says."""
    for cell in cells:
        for step in cell.steps:
            if default_calibration.is_missing(step.profile):
                text = f"has '{step.name}', which needs a `calibration`: '{cell.dataset}' is no "
                yield Fault(("grid",), f"{text}local data set with a split train to take one from")


def _rows(cells: Sequence[Cell]) -> Iterator[Fault]:
    """Yield the faults of cells that the table cannot tell apart, or that fill pruned biases."""
    seen: set[tuple] = set()
    for cell in cells:
        # Chains of the same steps in another order have the same key columns.
        row = tuple(cell.facts.values())
        if row in seen:
            yield Fault(("grid",), f"has two cells that the table could not tell apart: {row}")
        seen.add(row)
    for cell in cells:
        tuned = [step for step in cell.acting if step.kind == "finetune"]
        pruned = [step for step in cell.steps if step.kind == "prune" and step.profile.biases]
        if tuned and pruned:  # tuning preserves the zeros of weights alone
            text = f"tunes ({tuned[0].name}) what '{pruned[0].name}' pruned with biases"
            yield Fault(("grid",), f"{text}; remove `biases` or the fine-tuning")
            return


def _misfits(config: Config, cell: Cell) -> Iterator[Fault]:
    """Yield a fault for each step of a cell that its model's task does not fit."""
    if config.is_broken("models", cell.model) or config.is_broken("datasets", cell.dataset):
        return
    task = config.profile("models", cell.model).task
    dataset = config.sections["datasets"].get(cell.dataset)
    for step in cell.acting:
        text = ""
        if step.kind == "finetune":
            text = unfit(STRATEGIES, step.profile.strategy, task)
        elif step.profile.pattern == "structured":
            text = unfit(CRITERIA, step.profile.method, task)
        if not text and step.trains:
            text = unfit_learning(
                step.profile.strategy,
                task,
                processes=step.profile.processes,
                loss_on=step.profile.loss_on,
                windows=getattr(dataset, "kind", "") == "text",
            )
        if text:
            where = "the grid" if step.inline else f"{step.kind}.{step.name}"
            text = f"has '{step.name}' ({where}) on the model '{cell.model}': {text}"
            yield Fault(("grid",), f"{text}; exclude the cell, or mend its step or its model")


def _lacks_cells(config: Config, study: Study | Census) -> bool:
    """Return whether a study names a profile of which too little is valid to make a cell."""
    sections = ("models", "datasets", "prune", "finetune")
    lost = {n for s, n in config.broken if s in sections and n not in config.sections[s]}
    return not lost.isdisjoint({"dense", "none", *_scalars(study.model_dump())})


def _scalars(value: Any) -> Iterator[Any]:
    """Yield the leaves of nested mappings and lists."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _scalars(each)
    else:
        yield value


def _uncounted(config: Config, cell: Cell) -> Iterator[str]:
    """Yield why a census cannot count the weights of a cell."""
    if cell.acting and cell.acting[-1].kind == "finetune" and not cell.acting[-1].profile.plain:
        yield (
            f"ends in {cell.acting[-1].name}, whose weights are packed or have an adapter beside "
            "them; a census counts plain weights"
        )
    for step in cell.acting:
        if step.trains and cell.dataset is None:
            yield f"tunes ({step.name}) on no data set; name it in the study's `dataset`"
    if config.is_broken("models", cell.model):
        return
    reading = [s for s in cell.acting if s.trains or s.profile.calibration is not None]
    if reading and not config.profile("models", cell.model).tokenizer:
        yield f"has {reading[0].name} on the model '{cell.model}', which has no tokenizer"


def _unfit(config: Config, study: Study, models: Sequence[str]) -> Iterator[Fault]:
    """Yield a fault for each model that no evaluation fits, each evaluation that fits no model."""
    named = {name: config.sections["evaluations"].get(name) for name in study.evaluations}
    broken = [name for name in models if config.is_broken("models", name)]
    tasks = {name: config.profile("models", name).task for name in models}
    if None in named.values() or broken:  # a missing one has a fault of its own
        return
    for name, task in tasks.items():
        if not any(task in evaluation.FITS for evaluation in named.values()):
            fitting = ", ".join(sorted(kind for kind, of in kinds().items() if task in of.FITS))
            text = f"has the model '{name}', of the task {task}, which none of its evaluations "
            yield Fault(("grid",), f"{text}asks; {fitting} would")
        if not config.profile("models", name).tokenizer:
            yield Fault(("grid",), f"has the model '{name}', which has no tokenizer")
    for name, evaluation in named.items():
        if tasks and not set(evaluation.FITS) & set(tasks.values()):
            wanted = " or ".join(evaluation.FITS)
            text = f"names '{name}', of kind {evaluation.kind}, which asks models of the task "
            yield Fault(("evaluations",), f"{text}{wanted}; the grid has none")


def _unknown_values(study: Study | Census, cells: Sequence[Cell]) -> Iterator[Fault]:
    """Yield the faults of the cells whose values are said to be known."""
    for index, entry in enumerate(study.expected):
        keys = ("expected", index, "cells")
        known = cells[0].facts if cells else {}
        others = [key for key in entry.cells if key not in known]
        for key in others:
            yield Fault((*keys, key), f"is no column that tells cells apart; {nearest(key, known)}")
        if cells and not others and not any(cell.matches(entry.cells) for cell in cells):
            wanted = ", ".join(f"{key}: {value}" for key, value in entry.cells.items())
            text = f"chooses no cell of the grid ({wanted}), so {entry.column} has no value to "
            yield Fault(keys, f"{text}compare; add the cell to the grid, or remove the entry")


def _timed(config: Config, study: Study | Census, cells: Sequence[Cell]) -> Iterator[Fault]:
    """Yield the faults of a study's `timed`."""
    if study.timed is not None and study.efficiency is None:
        yield Fault(("timed",), "is not used without `efficiency`; add that, or remove it")
    efficiency = config.sections["efficiency"].get(study.efficiency)
    if efficiency is not None and not efficiency.passes:
        for model in sorted({cell.model for cell in cells if study.times(cell)}):
            text = unfit(STAGES, "efficiency", config.profile("models", model).task)
            if text:
                text = f"times the model '{model}' with '{study.efficiency}': {text}"
                yield Fault(("efficiency",), f"{text}; one with `passes: true` times any model")
    for index, side in enumerate(study.timed or ()):
        if not side.chosen(cells):
            wanted = ", ".join(f"{key}: {value}" for key, value in side.wanted.items())
            yield Fault(("timed", index), f"chooses no cell of the grid ({wanted})")
