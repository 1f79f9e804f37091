"""Checks across sections: names that must exist, settings that a plugin must know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prunegrid.common import plugins
from prunegrid.common.data_formats import format_of
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.config import conclusion_checks, mixtures, row_checks, study_checks
from prunegrid.config.evaluations.kind import Evaluation
from prunegrid.config.fault import Fault, below, unknown
from prunegrid.config.profiles import Calibration, Dataset, Metric
from prunegrid.config.sources import NUMBERS, leaving, parse_source
from prunegrid.config.step_checks import finetune_faults, prune_faults, unknown_settings
from prunegrid.config.tasks import Task
from prunegrid.config.validated import Config


def check_references(config: Config, place: Callable[..., str]) -> list[str]:
    """Return the faults that a single profile cannot show, one sentence each.

    Args:
        config: the profiles that are valid by themselves.
        place: returns file and dotted key of a path of keys.
    """
    return [f"{place(*fault.keys)} {fault.text}" for fault in _faults(config)]


def _faults(config: Config) -> Iterator[Fault]:
    for section, check in _CHECKS.items():
        for name, profile in config.sections[section].items():
            yield from below((section, name), check(config, profile))
    for name, study in config.sections["studies"].items():
        yield from below(("studies", name), study_checks.faults(config, name, study))
    yield from below(("claims",), conclusion_checks.faults(config))


def _source(config: Config, profile: Any) -> Iterator[Fault]:
    """Yield the faults of where a model or a data set comes from."""
    try:
        source = parse_source(profile.source, config.base)
    except ValueError as error:
        yield Fault(("source",), f"is '{profile.source}': {error}")
        return
    for keys, text in leaving(profile):
        yield Fault(keys, f"is {text!r}, which leads out of its folder")
    belongs = {"revision": ("hf",), "sha256": ("pypi",), "subset": ("hf",), "file": ("hf", "pypi")}
    for key, kinds in belongs.items():
        if getattr(profile, key, None) is not None and source["kind"] not in kinds:
            yield Fault((key,), f"is not used by a {source['kind']} source; remove it")


def _dataset(config: Config, dataset: Dataset) -> Iterator[Fault]:
    if dataset.mixture is not None:
        yield from below(("mixture",), mixtures.faults(config, dataset.mixture))
        return
    yield from _source(config, dataset)
    if dataset.format or dataset.source.startswith(("hf:", "random:", NUMBERS)):
        return
    for file in dataset.named_files:
        place = config.base / dataset.source / ("" if dataset.files is None else file)
        if format_of(file) is None and not place.is_dir():
            yield Fault(("format",), f"is missing, and the file's ending does not tell: {file}")


def _calibration(config: Config, calibration: Calibration) -> Iterator[Fault]:
    yield from unknown(config, ("dataset",), "datasets", calibration.dataset)
    yield from row_checks.of_splits(config, calibration, ("split",))
    yield from row_checks.no_rows(config, calibration.dataset)


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
        yield from unknown_settings((), metric.module, settings, facts["SETTINGS"])
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
    "models": _source,
    "datasets": _dataset,
    "calibration": _calibration,
    "prune": prune_faults,
    "finetune": finetune_faults,
    "metrics": _metric,
    "tasks": _task,
    "evaluations": _evaluation,
}
