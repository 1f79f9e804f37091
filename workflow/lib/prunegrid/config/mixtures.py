"""Checks of mixtures, and what a study tunes on of what it evaluates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunegrid.common.errors import nearest
from prunegrid.config.fault import Fault
from prunegrid.config.sources import parse_source
from prunegrid.config.tasks import Mixture

if TYPE_CHECKING:
    from prunegrid.config.validated import Config


def text_columns(dataset: Any) -> str | list[str] | None:
    """Return the columns whose text says which document a row of a data set is; None: not known."""
    return {"summaries": "document", "text": "text"}.get(dataset.kind, dataset.columns.get("text"))


def id_column(dataset: Any) -> str | list[str] | None:
    """Return the column whose value names a row of a data set, None without one."""
    return dataset.columns.get("id") if dataset.kind == "rows" else "id"


def evaluated_splits(config: Config, names: list[str]) -> list[tuple[str, str]]:
    """Return each (data set, split) once that evaluations with data of their own score on."""
    known = (config.sections["evaluations"].get(name) for name in names)
    own = [e for e in known if e is not None and not e.columns_of()]
    return list(dict.fromkeys(place for e in own for place in e.scored(config, "")))


def faults(config: Config, mixture: Mixture, raw: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield the faults of a mixture, keys below it."""
    for name, part in mixture.parts.items():
        keys = ("parts", name)
        dataset = config.sections["datasets"].get(part.dataset)
        if dataset is None:
            if part.dataset not in (raw.get("datasets") or {}):
                known = nearest(part.dataset, config.sections["datasets"])
                yield Fault((*keys, "dataset"), f"is '{part.dataset}'; {known}")
            continue
        if dataset.mixture is not None or dataset.kind == "text":
            text = f"is '{part.dataset}'; expected a data set of kind rows or summaries"
            yield Fault((*keys, "dataset"), text)
        elif part.split not in dataset.splits:
            known = nearest(part.split, dataset.splits)
            yield Fault((*keys, "split"), f"is '{part.split}', no split of it; {known}")
        if text_columns(dataset) is None and dataset.mixture is None:
            yield Fault((*keys, "dataset"), _textless(part.dataset))
    for name in mixture.disjoint_from:
        evaluation = config.sections["evaluations"].get(name)
        if evaluation is None and name not in (raw.get("evaluations") or {}):
            known = nearest(name, config.sections["evaluations"])
            yield Fault(
                ("disjoint_from",), f"names '{name}', which is not in `evaluations`; {known}"
            )
        elif evaluation is not None and evaluation.columns_of():
            text = f"names '{name}', of kind {evaluation.kind}, which no data set is of"
            yield Fault(("disjoint_from",), text)
    for name, _ in evaluated_splits(config, mixture.disjoint_from):
        dataset = config.sections["datasets"].get(name)
        if dataset is not None and text_columns(dataset) is None:
            yield Fault(("disjoint_from",), f"evaluates '{name}': its data set {_textless(name)}")


def _textless(name: str) -> str:
    return f"is '{name}', whose `columns` lack `text`: what a row is known by in the leak check"


def unchecked(
    config: Config, mixture: Mixture, evaluations: list[str]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield (evaluation, (data set, split)) of what is evaluated and not checked against."""
    checked = set(evaluated_splits(config, mixture.disjoint_from))
    for name in evaluations:
        for place in evaluated_splits(config, [name]):
            if place not in checked:
                yield name, place


def tuned_on(config: Config, dataset: str, evaluations: list[str]) -> list[str]:
    """Return the evaluated tasks whose own data set is a part of the mixture, or is the data set.

    A classification is a task of its evaluation's name.

    Args:
        dataset: what is learned.
        evaluations: that the cell's model is asked.
    """
    profile = config.sections["datasets"][dataset]
    parts = [p.dataset for p in profile.mixture.parts.values()] if profile.mixture else [dataset]
    learned = [_origin(config, name) for name in parts]
    found = []
    for name in evaluations:
        asked = config.sections["evaluations"][name].tasks_of(config, name)
        for task, own in asked.items():
            if any(_origin(config, own) & origin for origin in learned):
                found.append(task)
    return list(dict.fromkeys(found))


def _origin(config: Config, name: str) -> set[tuple]:
    """Return what a data set's rows come from, whatever its profile is called."""
    dataset = config.sections["datasets"][name]
    if dataset.source is None:
        return {("profile", name)}
    source = parse_source(dataset.source, config.base)
    files = dataset.files
    files = list(files.values()) if isinstance(files, Mapping) else [files] if files else []
    if source["kind"] == "local" and files:
        return {("profile", name), *(("file", str(Path(source["path"], f))) for f in files)}
    return {("profile", name), (*source.values(), dataset.subset)}
