"""Checks across sections: names that must exist, settings that a plugin must know."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunegrid.common import local_files, plugins
from prunegrid.common.data_formats import format_of
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.common.model_family import misfit
from prunegrid.config import (
    conclusion_checks,
    default_calibration,
    local_checks,
    mixtures,
    plugin_settings,
    row_checks,
    study_checks,
)
from prunegrid.config.evaluations.kind import Evaluation
from prunegrid.config.fault import Fault, below, unknown
from prunegrid.config.profiles import Calibration, Dataset, Metric, Model
from prunegrid.config.sources import NUMBERS, PROBE, known_config, leaving, parse_source, split_read
from prunegrid.config.step_checks import finetune_faults, prune_faults
from prunegrid.config.tasks import Task
from prunegrid.config.validated import Config

# Places that are named of those that share a fault with another.
MOST_SHARED = 5


def check_references(
    config: Config, place: Callable[..., str], partial: Mapping[tuple[str, str], Partial] = {}
) -> list[str]:
    """Return the faults that a single profile cannot show, one sentence each.

    A fault that several studies share is told of the first, with the names of the others.

    Args:
        config: the profiles that are valid by themselves.
        place: returns file and dotted key of a path of keys.
        partial: {(section, name): what is valid of a profile that is wrong}.
    """
    found = list(_faults(config))
    for (section, name), part in partial.items():
        found += [f for f in _of_profile(config, section, name) if not part.concerns(f)]
    return [f"{place(*fault.keys)} {fault.text}" for fault in _each_once(found)]


@dataclass(frozen=True)
class Partial:
    """What is valid of a profile, and the keys that were left out of it since they are wrong."""

    profile: Any
    left_out: tuple[str, ...]

    def concerns(self, fault: Fault) -> bool:
        """Return whether a fault is of a key that was left out."""
        return any(key in fault.keys or names(fault.text, key) for key in self.left_out)


def names(text: str, key: str) -> bool:
    """Return whether a sentence names a key."""
    return re.search(rf"\b{re.escape(key)}\b", text) is not None


def _faults(config: Config) -> Iterator[Fault]:
    for section in (*_CHECKS, "studies"):
        for name in config.sections[section]:
            if not config.is_broken(section, name):
                yield from _of_profile(config, section, name)
    yield from below(("claims",), conclusion_checks.faults(config))


def _of_profile(config: Config, section: str, name: str) -> Iterator[Fault]:
    profile = config.sections[section][name]
    if section == "studies":
        yield from below((section, name), study_checks.faults(config, name, profile))
    elif section in _CHECKS:
        yield from below((section, name), _CHECKS[section](config, profile))


def _each_once(faults: Iterable[Fault]) -> Iterator[Fault]:
    """Yield each fault once; one that several studies or claims share is told of the first."""
    places: dict[tuple[str, str], list[tuple]] = {}
    for fault in dict.fromkeys(faults):
        section, *keys = fault.keys
        if section in ("studies", "claims"):
            places.setdefault((section, fault.text), []).append(tuple(keys))
        else:
            yield fault
    for (section, text), (first, *others) in places.items():
        shared = [".".join(map(str, keys)) for keys in others]
        more = f", and {len(shared) - MOST_SHARED} more" if len(shared) > MOST_SHARED else ""
        also = f" (also in {', '.join(shared[:MOST_SHARED])}{more})" if shared else ""
        yield Fault((section, *first), text + also)


def _source(config: Config, profile: Any) -> Iterator[Fault]:
    """Yield the faults of where a model or a data set comes from."""
    try:
        source = parse_source(profile.source, config.base)
    except ValueError as error:
        yield Fault(("source",), f"is '{profile.source}': {error}")
        return
    made = {"random": Model, "numbers": Dataset, "probe": Dataset}
    made = made.get(source["kind"], type(profile))
    if not isinstance(profile, made):
        text = f"is '{profile.source}', a source of {made.__name__.lower()}s alone"
        yield Fault(("source",), f"{text}; expected another, such as hf:org/name")
    for keys, text in leaving(profile):
        yield Fault(keys, f"is {text!r}, which leads out of its folder")
    belongs = {"revision": ("hf",), "sha256": ("pypi",), "subset": ("hf",), "file": ("hf", "pypi")}
    for key, kinds in belongs.items():
        if getattr(profile, key, None) is not None and source["kind"] not in kinds:
            yield Fault((key,), f"is not used by a {source['kind']} source; remove it")


def _model(config: Config, model: Model) -> Iterator[Fault]:
    """Yield the faults of a model's source and files, or of a task that its config cannot have."""
    faults = list(_source(config, model))
    path = _local(config, model)
    try:
        if path is not None:
            local_files.of_model(path, "")
    except PrunegridError as error:
        faults.append(Fault(("source",), f"is '{model.source}': {error}"))
    yield from faults
    text = "" if faults else misfit(known_config(model, config.base), model.task)
    if text:
        yield Fault(("task",), f"is {model.task}, and {text}")


def _local(config: Config, profile: Any) -> Path | None:
    """Return the path of a local source; None of another kind, or a wrong one."""
    try:
        path = parse_source(profile.source, config.base).get("path")
    except ValueError:
        return None
    return path and Path(path)


def _dataset(config: Config, dataset: Dataset) -> Iterator[Fault]:
    yield from _splits(dataset)
    if dataset.mixture is not None:
        yield from below(("mixture",), mixtures.faults(config, dataset.mixture))
    if dataset.source is None or dataset.mixture is not None:
        return
    yield from _source(config, dataset)
    yield from _files(config, dataset)
    yield from local_checks.of_dataset(config, dataset)
    if dataset.format or dataset.source.startswith(("hf:", "random:", NUMBERS, PROBE)):
        return
    for file in dataset.named_files:
        place = config.base / dataset.source / ("" if dataset.files is None else file)
        if format_of(file) is None and not place.is_dir():
            yield Fault(("format",), f"is missing, and the file's ending does not tell: {file}")


def _splits(dataset: Dataset) -> Iterator[Fault]:
    """Yield the faults of the expressions of `splits`, as far as the source's splits are known."""
    known = list(dataset.files) if isinstance(dataset.files, Mapping) else ["all"]
    # Of kind rows, only those splits are read that something names.
    source, is_rows = dataset.source or "", dataset.kind == "rows"
    if source.startswith("hf:") or is_rows and not source.startswith(PROBE):
        known = None
    for name, expression in dataset.splits.items():
        split = split_read(expression)
        if split is None:
            text = f"is '{expression}'; expected a split, or a slice of it: train[:90%]"
            yield Fault(("splits", name), text)
        elif known is not None and split not in known:
            text = f"is '{expression}', and the source has no '{split}'; {nearest(split, known)}"
            yield Fault(("splits", name), text)


def _files(config: Config, dataset: Dataset) -> Iterator[Fault]:
    """Yield a fault for each file of a local source that is not there."""
    path = _local(config, dataset)
    if path is None or leaving(dataset):
        return
    files = dataset.files
    several = isinstance(files, Mapping)
    for split, file in files.items() if several else [("", files)]:
        try:
            local_files.of_data({"path": path, "files": file}, "")
        except PrunegridError as error:
            keys = ("files", split) if several else ("files" if files else "source",)
            yield Fault(keys, f"is '{file or dataset.source}': {error}")


def _calibration(config: Config, calibration: Calibration) -> Iterator[Fault]:
    yield from unknown(config, ("dataset",), "datasets", calibration.dataset)
    yield from row_checks.of_splits(config, calibration, ("split",))
    yield from row_checks.no_rows(config, calibration.dataset)
    is_default = default_calibration.is_default(calibration)
    if not is_default and (text := local_checks.uncalibrated(config, calibration)):
        yield Fault(("length",), text)
    dataset = config.sections["datasets"].get(calibration.dataset)
    if dataset is None or dataset.has_items or calibration.column is None:
        return
    if calibration.column != dataset.read_column:
        text = f"is {calibration.column}, and '{calibration.dataset}' is of kind {dataset.kind}; "
        yield Fault(("column",), f"{text}write {dataset.read_column}, or leave it out")


def _metric(config: Config, metric: Metric) -> Iterator[Fault]:
    try:
        facts = plugins.metric_facts(metric.module, config.base)
    except PrunegridError as error:
        yield Fault(("module",), f"is '{metric.module}': {error.what}; {error.remedy}")
        return
    settings = metric.model_extra or {}
    if facts is None and "/" in metric.module and "revision" not in settings:
        yield Fault(("revision",), "is missing: the code of a community's metric may change")
    if facts is not None:
        written = metric.model_dump(exclude_unset=True)
        yield from plugin_settings.faults("metrics", written, config.base)
        if facts["NEEDS_MODEL"] != (metric.model is not None):
            fault = "is missing" if metric.model is None else "is not used"
            yield Fault(("model",), f"{fault}: see the metric {metric.module}")
        for read in sorted(set(facts["READS"]) - plugins.METRICS_READ):
            known = nearest(read, plugins.METRICS_READ)
            yield Fault(("module",), f"has READS that name '{read}'; {known}")
    yield from unknown(config, ("model",), "models", metric.model)
    model = config.sections["models"].get(metric.model)
    if model is not None and not model.tokenizer:
        yield Fault(("model",), f"is '{metric.model}', which has no tokenizer")


def _task(config: Config, task: Task) -> Iterator[Fault]:
    return task.faults(config)


def _evaluation(config: Config, evaluation: Evaluation) -> Iterator[Fault]:
    for key, section in evaluation.REFERS.items():
        names = getattr(evaluation, key)
        for name in names if isinstance(names, list) else [names]:
            yield from unknown(config, (key,), section, name)
    yield from evaluation.faults(config)


# {section: the check of one of its profiles}; a section without one needs no other.
_CHECKS: dict[str, Callable[[Config, Any], Iterator[Fault]]] = {
    "models": _model,
    "datasets": _dataset,
    "calibration": _calibration,
    "prune": prune_faults,
    "finetune": finetune_faults,
    "metrics": _metric,
    "tasks": _task,
    "evaluations": _evaluation,
}
