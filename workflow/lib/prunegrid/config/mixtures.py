"""Mixtures of data sets: their checks, and the evaluated tasks that they teach."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from prunegrid.common.errors import nearest
from prunegrid.config.fault import Fault, unknown
from prunegrid.config.sources import parse_source
from prunegrid.config.tasks import Mixture
from prunegrid.config.validated import Config


def evaluated_splits(config: Config, names: Iterable[str]) -> list[tuple[str, str]]:
    """Return each (data set, split) once that evaluations which name their data score on."""
    known = (config.sections["evaluations"].get(name) for name in names)
    own = [e for e in known if e is not None and e.NAMES_DATA]
    return list(dict.fromkeys(place for e in own for place in e.scored(config, "")))


def faults(config: Config, mixture: Mixture) -> Iterator[Fault]:
    """Yield the faults of a mixture, keys below it."""
    for name, part in mixture.parts.items():
        keys = ("parts", name)
        yield from unknown(config, (*keys, "dataset"), "datasets", part.dataset)
        dataset = config.sections["datasets"].get(part.dataset)
        if dataset is None:
            continue
        if dataset.mixture is not None or dataset.kind == "text":
            text = f"is '{part.dataset}'; expected a data set of kind rows or summaries"
            yield Fault((*keys, "dataset"), text)
        elif part.split not in dataset.splits:
            known = nearest(part.split, dataset.splits)
            yield Fault((*keys, "split"), f"is '{part.split}', no split of it; {known}")
        if dataset.text_columns is None and dataset.mixture is None:
            yield Fault((*keys, "dataset"), _textless(part.dataset))
    for name in mixture.disjoint_from:
        yield from unknown(config, ("disjoint_from",), "evaluations", name)
        evaluation = config.sections["evaluations"].get(name)
        if evaluation is not None and not evaluation.NAMES_DATA:
            text = f"names '{name}', of kind {evaluation.kind}, which names no data set"
            yield Fault(("disjoint_from",), text)
    for name, _ in evaluated_splits(config, mixture.disjoint_from):
        dataset = config.sections["datasets"].get(name)
        if dataset is not None and dataset.text_columns is None:
            yield Fault(("disjoint_from",), f"evaluates '{name}': its data set {_textless(name)}")


def _textless(name: str) -> str:
    return f"is '{name}', whose `columns` lack `text`: the leak check compares rows by it"


def tuned_on(config: Config, dataset: str, evaluations: Iterable[str]) -> list[str]:
    """Return the evaluated tasks whose own data set is a data set, or a part of it (a mixture).

    A classification is a task of its evaluation's name.
    """
    mixture = config.profile("datasets", dataset).mixture
    parts = [part.dataset for part in mixture.parts.values()] if mixture else [dataset]
    learned = set().union(*(_origin(config, name) for name in parts))
    tasks = {}
    for name in evaluations:
        tasks |= config.profile("evaluations", name).tasks_of(config, name)
    return [task for task, own in tasks.items() if _origin(config, own) & learned]


def _origin(config: Config, name: str) -> set[tuple]:
    """Return what identifies the rows of a data set, whatever its profile is called."""
    dataset = config.profile("datasets", name)
    if dataset.source is None:
        return {("profile", name)}
    source = parse_source(dataset.source, config.base)
    files = dataset.named_files if dataset.files else []
    if source["kind"] == "local" and files:
        return {("profile", name), *(("file", str(Path(source["path"], f))) for f in files)}
    return {("profile", name), (*source.values(), dataset.subset)}
