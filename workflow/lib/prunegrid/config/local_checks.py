"""Checks of local files and models before a run: columns, lengths, the model's positions.

A fault here is certain: what a check cannot know (packed files, models of the hub) it passes over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from prunegrid.common.errors import nearest
from prunegrid.config import default_calibration, local_data
from prunegrid.config.cells import Cell
from prunegrid.config.fault import Fault
from prunegrid.config.profiles import Calibration, Dataset
from prunegrid.config.sources import split_read
from prunegrid.config.studies import Census, Study
from prunegrid.config.validated import Config

_FIRST = re.compile(r"[^\[]*\[(\d+):[^%]*\]")


def of_dataset(config: Config, dataset: Dataset) -> Iterator[Fault]:
    """Yield the faults of columns that a local file lacks, and of slices beyond its last row."""
    files = local_data.files(config, dataset)
    for target, named in dataset.columns.items():
        for column in [named] if isinstance(named, str) else named:
            for path in (path for paths in files.values() for path in paths):
                known = local_data.columns(path, dataset.format)
                whole = path.suffix == ".parquet"  # of which nested columns are not read
                found = column.partition(".")[0] if whole and column not in known else column
                if known and found not in known:
                    text = f"is '{column}', and {path} has no such column; "
                    yield Fault(("columns", target), text + nearest(column, known))
                    break
    for name, expression in dataset.splits.items():
        first = _FIRST.fullmatch(expression)
        rows = local_data.most_rows(files.get(split_read(expression) or "", []) or [])
        if first and rows and int(first[1]) >= rows:
            text = f"is '{expression}', and the file has at most {rows} rows"
            yield Fault(("splits", name), text)


def too_short(config: Config, name: str, split: str, tokens: int) -> str:
    """Return in words that a local split holds fewer tokens than are needed; "" if it may do."""
    dataset = config.sections["datasets"].get(name)
    expression = getattr(dataset, "splits", {}).get(split)
    if expression is None or dataset.mixture is not None:
        return ""
    paths = local_data.files(config, dataset).get(split_read(expression) or "")
    most = local_data.most_tokens(paths) if paths else None
    if most is None or most > tokens:
        return ""
    return f"is {tokens} tokens, and the files of '{name}' hold at most {most}"


def uncalibrated(config: Config, drawn: Calibration) -> str:
    """Return in words that a calibration's text is too short for its windows; "" if it may do."""
    return too_short(config, drawn.dataset, drawn.split, drawn.length)


def of_study(config: Config, study: Study | Census, cells: Sequence[Cell]) -> Iterator[Fault]:
    """Yield the faults of lengths: beyond a model's positions, or a default calibration's text."""
    steps = {step.name: step.profile.calibration for cell in cells for step in cell.acting}
    for step, name in steps.items():
        drawn = config.sections["calibration"].get(name)
        is_default = drawn is not None and default_calibration.is_default(drawn)
        if is_default and (text := uncalibrated(config, drawn)):
            yield Fault((), f"has '{step}' on '{name}', whose length {text}")
    for model in sorted({cell.model for cell in cells}):
        if config.is_broken("models", model):
            continue
        profile = config.profile("models", model)
        limit = local_data.positions(profile, config.base)
        chosen = [cell for cell in cells if cell.model == model]
        for what, length in dict.fromkeys(_lengths(config, study, profile.task, chosen)):
            if limit is not None and length > limit:
                text = f"has {what} of {length} tokens, and the model '{model}' has {limit} "
                yield Fault((), f"{text}positions; lower it")


def _lengths(
    config: Config, study: Any, task: str, cells: Sequence[Cell]
) -> Iterator[tuple[str, int]]:
    """Yield (what, tokens) of every window that a model of a task is given in a study."""
    sections = config.sections
    for cell in cells:
        for step in cell.acting:
            drawn = sections["calibration"].get(step.profile.calibration)
            if drawn is not None:
                yield f"samples (calibration '{step.profile.calibration}')", drawn.length
            window = getattr(step.profile, "window", None)
            if window is not None:
                yield f"windows (finetune '{step.name}')", window
    for name in study.evaluations:
        evaluation = sections["evaluations"].get(name)
        if evaluation is None or task not in evaluation.FITS:
            continue
        decoding = sections["generation"].get(getattr(evaluation, "generation", None))
        read = sections["evaluations"].get(getattr(evaluation, "windows", None), evaluation)
        if read.kind == "perplexity":
            yield f"windows (evaluation '{name}')", read.window
        elif decoding is not None and evaluation.kind == "texts":
            text = f"new tokens with a prompt before them (generation '{evaluation.generation}')"
            yield text, decoding.max_new_tokens + 1
