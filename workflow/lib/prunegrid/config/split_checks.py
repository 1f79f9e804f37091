"""Checks of the splits that a study learns, chooses by and scores: there, fit, and held apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prunegrid.common import plugins
from prunegrid.common.errors import nearest
from prunegrid.config import mixtures, profiles
from prunegrid.config.cells import Cell
from prunegrid.config.evaluations import fits
from prunegrid.config.fault import Fault
from prunegrid.config.row_overlap import shared

if TYPE_CHECKING:
    from prunegrid.config.validated import Config


def faults(config: Config, study: profiles.Study, cells: Sequence[Cell]) -> Iterator[Fault]:
    """Yield the faults of the splits that a study's cells and evaluations name.

    Args:
        cells: all of its grid.
    """
    for dataset in sorted({cell.dataset for cell in cells} - {None}):
        profile = config.sections["datasets"].get(dataset)
        if profile is not None:
            own = [cell for cell in cells if cell.dataset == dataset]
            yield from _unscored(config, study, dataset, profile)
            yield from _untuned(dataset, profile, own)
            yield from _unchecked(config, study, dataset, profile, own)
    yield from _not_held_out(config, study, cells)
    yield from dict.fromkeys(_scored(config, study, cells))


def _unchecked(
    config: Config,
    study: profiles.Study,
    dataset: str,
    profile: profiles.Dataset,
    cells: Sequence[Cell],
) -> Iterator[Fault]:
    """A mixture that a study tunes on is checked against all that the study evaluates."""
    if profile.mixture is None or all(
        step.idle for cell in cells for step in cell.steps if step.kind == "finetune"
    ):
        return
    for label, (other, split) in mixtures.unchecked(config, profile.mixture, study.evaluations):
        text = f"scores on '{split}' of '{other}', which the mixture '{dataset}' is not checked "
        yield Fault(
            (f"evaluations ({label})",), f"{text}against; add '{label}' to its `disjoint_from`"
        )
    for label in study.evaluations:
        for other in _evaluated(config, label, dataset):
            for name, part in profile.mixture.parts.items():
                if shared(config, (part.dataset, part.split), other):
                    text = f"scores on '{other[1]}' of '{other[0]}', which part '{name}' of the "
                    fault = f"{text}mixture '{dataset}' learns; name another split there"
                    yield Fault((f"evaluations ({label})",), fault)


def _unscored(
    config: Config, study: profiles.Study, dataset: str, profile: profiles.Dataset
) -> Iterator[Fault]:
    """Yield the faults of evaluations of texts on one data set."""
    for label in dict.fromkeys(study.evaluations):
        evaluation = config.sections["evaluations"].get(label)
        splits = [] if evaluation is None else evaluation.columns_of()
        keys = (f"evaluations ({label})",)
        if splits and profile.kind != "summaries":
            text = f"wants summaries, and '{dataset}' is of kind {profile.kind}, which has none; "
            yield Fault(keys, text + "use a data set of kind summaries")
            continue
        yield from (_unknown(keys, dataset, profile, s) for s in splits if s not in profile.splits)


def _untuned(dataset: str, profile: profiles.Dataset, cells: Sequence[Cell]) -> Iterator[Fault]:
    """Yield the faults of fine-tunings on one data set."""
    steps = {
        step.name: step.profile
        for cell in cells
        for step in cell.steps
        if step.kind == "finetune" and plugins.strategy_facts(step.profile.strategy)["TRAINS"]
    }
    for name, tuning in sorted(steps.items()):
        keys = (f"finetune ({name})",)
        text = f"'{dataset}' is of kind {profile.kind}"
        if profile.kind == "rows":
            yield Fault(keys, f"cannot learn '{dataset}', of kind rows; make it part of a mixture")
            continue
        if profile.kind == "text" and tuning.window is None:
            yield Fault(keys, f"has no window, and {text}; give the tokens of a window to learn")
        if profile.kind != "text" and tuning.window is not None:
            yield Fault(keys, f"has a window, and {text}, whose rows are learned; remove it")
        for split in sorted({tuning.split, tuning.dev_split} - {None}):
            if split not in profile.splits:
                yield _unknown(keys, dataset, profile, split)


def _unknown(keys: tuple, dataset: str, profile: profiles.Dataset, split: str) -> Fault:
    return Fault(
        keys, f"wants the split '{split}' of '{dataset}'; {nearest(split, profile.splits)}"
    )


def _not_held_out(config: Config, study: profiles.Study, cells: Sequence[Cell]) -> Iterator[Fault]:
    """A split that chooses weights or rates shares no row with those learned or evaluated."""
    tuned = {
        (cell.dataset, step.name, step.profile.dev_split, step.profile.split)
        for cell in cells
        for step in cell.steps
        if step.kind == "finetune" and step.profile.dev_split is not None
    }
    for dataset, name, dev, learned in sorted(tuned):
        text = f"chooses by the development split '{dev}' of '{dataset}', which "
        if shared(config, (dataset, dev), (dataset, learned)):
            fault = f"shares rows with '{learned}', which it learns; hold other rows out"
            yield Fault((f"finetune ({name})",), text + fault)
        for label in study.evaluations:
            for other, split in _evaluated(config, label, dataset):
                if shared(config, (dataset, dev), (other, split)):
                    shown = _apart((dataset, dev), (other, split))
                    fault = f"evaluation '{label}' scores on{shown}; hold other rows out"
                    yield Fault((f"finetune ({name})",), text + fault)


def _scored(config: Config, study: profiles.Study, cells: Sequence[Cell]) -> Iterator[Fault]:
    """A split that is learned or calibrated on shares no row with one that its model is scored on.

    What a mixture learns is checked part by part.
    """
    read = dict.fromkeys(
        (step, does, place, cell.dataset, config.sections["models"][cell.model].task)
        for cell in cells
        for step, does, place in _read(config, cell)
    )
    for step, does, place, dataset, task in read:
        for label in study.evaluations:
            evaluation = config.sections["evaluations"].get(label)
            if evaluation is None or not fits(evaluation, task):
                continue
            for other in _evaluated(config, label, dataset):
                if shared(config, place, other):
                    text = f"{does} '{place[1]}' of '{place[0]}', which evaluation '{label}' "
                    fault = f"scores on{_apart(place, other)}; hold other rows out"
                    yield Fault((step,), text + fault)


def _read(config: Config, cell: Cell) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """Yield (step, what it does, (data set, split)) of all that changes a cell's weights."""
    for step in cell.steps:
        named = f"{step.kind} ({step.name})"
        tunes = step.kind == "finetune"
        if tunes and plugins.strategy_facts(step.profile.strategy)["TRAINS"]:
            yield named, "learns", (cell.dataset, step.profile.split)
        drawn = config.sections["calibration"].get(step.profile.calibration)
        if drawn is None:
            continue
        yield named, "calibrates on", (drawn.dataset, drawn.split)
        mixture = getattr(config.sections["datasets"].get(drawn.dataset), "mixture", None)
        for part in mixture.parts.values() if mixture else ():
            yield named, "calibrates on", (part.dataset, part.split)


def _apart(place: tuple[str, str], other: tuple[str, str]) -> str:
    """Return how a split is another, each (data set, split), that it shares rows with."""
    if place == other:
        return ""
    of = "" if place[0] == other[0] else f" of '{other[0]}'"
    return f" (it shares rows with '{other[1]}'{of})"


def _evaluated(config: Config, label: str, dataset: str) -> list[tuple[str, str]]:
    """Return (data set, split) of all that an evaluation of a data set's cells scores on."""
    evaluation = config.sections["evaluations"].get(label)
    return [] if evaluation is None else evaluation.scored(config, dataset)
