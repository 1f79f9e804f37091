"""Checks of the splits that a study learns, chooses by and scores: there, fit, and held apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prunegrid.common.errors import nearest
from prunegrid.config import mixtures
from prunegrid.config.cells import Cell
from prunegrid.config.fault import Fault
from prunegrid.config.profiles import Dataset
from prunegrid.config.row_checks import share_rows
from prunegrid.config.studies import Study
from prunegrid.config.validated import Config

Split = tuple[str, str]  # data set, split of it


def faults(config: Config, study: Study, cells: Sequence[Cell]) -> Iterator[Fault]:
    """Yield the faults of the splits that a study's cells (all of them) and evaluations name."""
    for dataset in sorted({cell.dataset for cell in cells} - {None}):
        profile = config.profile("datasets", dataset)
        steps = [step for cell in cells if cell.dataset == dataset for step in cell.steps]
        if config.is_broken("datasets", dataset):  # its kind and splits may be others
            continue
        tunings = {s.name: s.profile for s in steps if s.trains}
        known = {n: p for n, p in tunings.items() if not config.is_broken("finetune", n)}
        yield from _unscored(config, study, dataset, profile)
        yield from _untuned(dataset, profile, known)
        if profile.mixture and any(s.kind == "finetune" and not s.idle for s in steps):
            yield from _unchecked(config, study, dataset, profile)
    yield from _not_held_out(config, study, cells)
    yield from dict.fromkeys(_scored(config, study, cells))


def _unscored(config: Config, study: Study, dataset: str, profile: Dataset) -> Iterator[Fault]:
    """Yield the faults of evaluations that score on the cells' own data set."""
    for label in dict.fromkeys(study.evaluations):
        evaluation = config.sections["evaluations"].get(label)
        if evaluation is None or evaluation.NAMES_DATA:
            continue
        keys = (f"evaluations ({label})",)
        if profile.kind != "summaries":
            text = f"wants summaries, and '{dataset}' is of kind {profile.kind}, which has none; "
            yield Fault(keys, text + "use a data set of kind summaries")
            continue
        for _, split in evaluation.scored(config, dataset):
            yield from _absent(keys, dataset, profile, split)


def _untuned(dataset: str, profile: Dataset, tunings: dict) -> Iterator[Fault]:
    """Yield the faults of fine-tunings, {name: profile}, on one data set."""
    for name, tuning in sorted(tunings.items()):
        keys = (f"finetune ({name})",)
        text = f"'{dataset}' is of kind {profile.kind}"
        if profile.has_items:
            fault = f"cannot learn '{dataset}', of kind {profile.kind}; make it part of a mixture"
            yield Fault(keys, fault)
            continue
        if profile.kind == "text" and tuning.window is None:
            yield Fault(keys, f"has no window, and {text}; give the tokens of a window to learn")
        if profile.kind != "text" and tuning.window is not None:
            yield Fault(keys, f"has a window, and {text}, whose rows are learned; remove it")
        for split in sorted({tuning.split, tuning.dev_split} - {None}):
            yield from _absent(keys, dataset, profile, split)


def _absent(keys: tuple, dataset: str, profile: Dataset, split: str) -> Iterator[Fault]:
    if split not in profile.splits:
        known = nearest(split, profile.splits)
        yield Fault(keys, f"wants the split '{split}' of '{dataset}'; {known}")


def _unchecked(config: Config, study: Study, dataset: str, profile: Dataset) -> Iterator[Fault]:
    """Yield a fault for each scored split that a learned mixture is not checked against, or learns.

    `disjoint_from` of the mixture names the evaluations that it is checked against.
    """
    checked = mixtures.evaluated_splits(config, profile.mixture.disjoint_from)
    for label in study.evaluations:
        keys = (f"evaluations ({label})",)
        for other, split in mixtures.evaluated_splits(config, [label]):
            if (other, split) not in checked:
                text = f"scores on '{split}' of '{other}', which the mixture '{dataset}' is not "
                text += f"checked against; add '{label}' to its `disjoint_from`"
                yield Fault(keys, text)
    for label in study.evaluations:
        for other, split in _evaluated(config, label, dataset):
            for name, part in profile.mixture.parts.items():
                if share_rows(config, (part.dataset, part.split), (other, split)):
                    text = f"scores on '{split}' of '{other}', which part '{name}' of the mixture "
                    text += f"'{dataset}' learns; name another split there"
                    yield Fault((f"evaluations ({label})",), text)


def _not_held_out(config: Config, study: Study, cells: Sequence[Cell]) -> Iterator[Fault]:
    """Yield a fault if a split that chooses weights or rates shares learned or scored rows."""
    tuned = {
        (cell.dataset, step.name, step.profile.dev_split, step.profile.split)
        for cell in cells
        for step in cell.steps
        if step.kind == "finetune" and step.profile.dev_split is not None
    }
    for dataset, name, dev, learned in sorted(tuned):
        keys = (f"finetune ({name})",)
        text = f"chooses by the development split '{dev}' of '{dataset}', which "
        if share_rows(config, (dataset, dev), (dataset, learned)):
            fault = f"shares rows with '{learned}', which it learns; hold other rows out"
            yield Fault(keys, text + fault)
        for label in study.evaluations:
            yield from _leaks(config, label, (dataset, dev), dataset, keys, text)


def _scored(config: Config, study: Study, cells: Sequence[Cell]) -> Iterator[Fault]:
    """Yield a fault if a split that changes a model's weights shares rows that it is scored on.

    Mixtures that are learned are checked part by part (`_unchecked`).
    """
    read = dict.fromkeys(
        (step, does, place, cell.dataset, config.profile("models", cell.model).task)
        for cell in cells
        for step, does, place in _read(config, cell)
    )
    for step, does, place, dataset, task in read:
        for label in study.evaluations:
            evaluation = config.sections["evaluations"].get(label)
            if evaluation is not None and task in evaluation.FITS:
                text = f"{does} '{place[1]}' of '{place[0]}', which "
                yield from _leaks(config, label, place, dataset, (step,), text)


def _read(config: Config, cell: Cell) -> Iterator[tuple[str, str, Split]]:
    """Yield (step, what it does, split) of everything that changes a cell's weights."""
    for step in cell.steps:
        label = f"{step.kind} ({step.name})"
        if step.trains:
            yield label, "learns", (cell.dataset, step.profile.split)
        drawn = config.sections["calibration"].get(step.profile.calibration)
        if drawn is None:
            continue
        yield label, "calibrates on", (drawn.dataset, drawn.split)
        mixture = getattr(config.sections["datasets"].get(drawn.dataset), "mixture", None)
        for part in mixture.parts.values() if mixture else ():
            yield label, "calibrates on", (part.dataset, part.split)


def _leaks(
    config: Config, label: str, place: Split, dataset: str, keys: tuple, text: str
) -> Iterator[Fault]:
    """Yield a fault for each split that an evaluation scores on and that shares rows with a place.

    Args:
        label: the evaluation's name.
        dataset: the data set of the cells.
        keys, text: of the fault; the text says how the place is used.
    """
    for other, split in _evaluated(config, label, dataset):
        if share_rows(config, place, (other, split)):
            of = "" if place[0] == other else f" of '{other}'"
            same = place == (other, split)
            shared = "" if same else f" (it shares rows with '{split}'{of})"
            fault = f"evaluation '{label}' scores on{shared}; hold other rows out"
            yield Fault(keys, text + fault)


def _evaluated(config: Config, label: str, dataset: str) -> list[Split]:
    """Return all splits that an evaluation of a data set's cells scores on."""
    evaluation = config.sections["evaluations"].get(label)
    return [] if evaluation is None else evaluation.scored(config, dataset)
