"""Checks of the contrasts and cliffs of a study: their sides, splits and metrics exist."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prunegrid.common.errors import nearest
from prunegrid.common.nm_pattern import parse_nm
from prunegrid.config.cells import Cell
from prunegrid.config.evaluations.kind import declared_columns
from prunegrid.config.fault import Fault
from prunegrid.config.studies import Cliff, Contrast, Study
from prunegrid.config.validated import Config


def faults_of_cells(config: Config, study: Study, cells: Sequence[Cell]) -> Iterator[Fault]:
    """Yield the faults of the cells that a study's contrasts and cliffs compare.

    Args:
        cells: all of its grid.
    """
    for index, contrast in enumerate(study.contrasts):
        keys = ("contrasts", index)
        sides = {"a": contrast.a, "b": contrast.b}
        chosen = {name: side.chosen(cells) for name, side in sides.items()}
        for name in sides:
            groups = dict.fromkeys(_group(cell) for cell in chosen[name])
            if len(groups) != 1:
                listing = "; ".join(groups) if groups else "no cell of the grid"
                text = f"chooses {listing}; expected the cells of one prune and finetune"
                yield Fault((*keys, name), text)
        if chosen["a"] and chosen["a"] == chosen["b"]:
            yield Fault(keys, "has the same cells on both sides")
    if study.cliffs:
        yield from _mixed(config, cells)


def faults_of_scores(config: Config, study: Study) -> Iterator[Fault]:
    """Yield the faults of the names, splits and metrics of a study's contrasts and cliffs."""
    seen: set[str] = set()
    for index, contrast in enumerate(study.contrasts):
        keys = ("contrasts", index)
        if contrast.name in seen:
            yield Fault((*keys, "name"), f"is '{contrast.name}' a second time")
        seen.add(contrast.name)
        yield from _measure(config, study, contrast, keys)
    for index, cliff in enumerate(study.cliffs):
        yield from _measure(config, study, cliff, ("cliffs", index))


def _mixed(config: Config, cells: Sequence[Cell]) -> Iterator[Fault]:
    """Yield a fault for each line of a cliff along which more than the sparsity changes.

    Tests along a line have a fixed order only if the sparsity alone rises.
    """
    lines: dict[tuple, dict[tuple, str]] = {}
    for cell in cells:
        pruned = [step for step in cell.acting if step.kind == "prune"]
        if pruned and not any(config.is_broken("prune", step.name) for step in pruned):
            method = pruned[-1].profile.method
            line = (cell.model, cell.dataset, cell.names("finetune"), method)
            lines.setdefault(line, {}).setdefault(_but_sparsity(cell), cell.names("prune"))
    for line, names in lines.items():
        if len(names) > 1:
            one, other, *_ = names.values()
            text = f"has '{one}' and '{other}' on one line ({' / '.join(map(str, line))}), which "
            yield Fault(("cliffs",), f"{text}differ in more than sparsity; use a study for each")


def _but_sparsity(cell: Cell) -> tuple[str, ...]:
    """Return a cell's steps without their sparsity; N of N:M is that."""
    steps = []
    for step in cell.acting:
        profile = step.profile
        if step.kind == "prune":
            pair = parse_nm(profile.pattern)
            pattern = profile.pattern if pair is None else f"N:{pair[1]}"
            profile = profile.model_copy(update={"sparsity": None, "pattern": pattern})
        steps.append(f"{step.kind} {profile.model_dump_json()}")
    return tuple(steps)


def _group(cell: Cell) -> str:
    return " / ".join(str(value) for key, value in cell.facts.items() if key != "seed")


def _measure(
    config: Config, study: Study, contrast: Contrast | Cliff, keys: tuple
) -> Iterator[Fault]:
    """Yield the faults of the split and metric of a contrast or cliff."""
    measured: dict[str, tuple[Any, list[str]]] = {}
    for name in study.evaluations:
        evaluation = config.sections["evaluations"].get(name)
        for split, metrics in evaluation.measures(config, name).items() if evaluation else ():
            measured[split] = (evaluation, metrics)
    if contrast.split not in measured:
        if not any(_is_in_doubt(config, study, name) for name in study.evaluations):
            hint = nearest(contrast.split, measured)
            text = f"is '{contrast.split}', which is not evaluated; {hint}"
            yield Fault((*keys, "split"), text)
        return
    evaluation, metrics = measured[contrast.split]
    metric = contrast.metric
    if metric is None:
        if evaluation.kind != "perplexity":  # which has only one
            hint = nearest("", metrics)
            yield Fault((*keys, "metric"), f"is missing; name one {hint}")
    elif metric not in metrics and not any("*" in name for name in metrics):
        hint = nearest(metric, metrics)
        yield Fault((*keys, "metric"), f"is '{metric}', which is not measured; {hint}")
    elif _is_neutral(config, evaluation, metric):
        text = f"is {metric}, of which neither more nor less is better"
        yield Fault((*keys, "metric"), text)


def _is_in_doubt(config: Config, study: Study, name: str) -> bool:
    """Return whether an evaluation has a fault of its own by which it lacks splits."""
    evaluation = config.sections["evaluations"].get(name)
    if evaluation is None or config.is_broken("evaluations", name):
        return True
    if any(task not in config.sections["tasks"] for task in getattr(evaluation, "tasks", ())):
        return True
    splits = getattr(config.sections["datasets"].get(study.dataset), "splits", {})
    return not evaluation.NAMES_DATA and not splits.keys() >= {*evaluation.splits}


def _is_neutral(config: Config, evaluation: Any, column: str) -> bool:
    """Return whether a metric of an evaluation declares that no direction of a column is better."""
    declared = [declared_columns(config, name) for name in getattr(evaluation, "metrics", ())]
    neutral = any(columns.get(column, True) is None for columns in declared)
    return neutral or column in evaluation.NEUTRAL
