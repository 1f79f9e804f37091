"""Checks across sections: names that must exist, settings that a method must know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prunegrid.common import plugins
from prunegrid.common.data_formats import format_of
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.config import (
    benchmarks,
    census_checks,
    conclusion_checks,
    contrasts,
    evaluation_checks,
    mixtures,
    profiles,
    selectors,
    shown,
    split_checks,
)
from prunegrid.config.fault import GridError
from prunegrid.config.grid import expand
from prunegrid.config.renamed import successor_of_key
from prunegrid.config.sources import NUMBERS, leaving, parse_source

if TYPE_CHECKING:
    from prunegrid.config.validated import Config


def check_references(
    config: Config, raw: Mapping[str, Any], place: Callable[..., str]
) -> list[str]:
    """Return the faults that a single profile cannot show, one sentence each.

    Args:
        config: the profiles that are valid by themselves.
        raw: the unvalidated config: a name that stands there counts as known, so that one broken
            profile is not reported again by all that name it.
        place: gives file and dotted key of a path of keys.
    """
    check = _Check(config, raw, place)
    for name, model in config.sections["models"].items():
        check.source("models", name, model)
    for name, dataset in config.sections["datasets"].items():
        if dataset.mixture is not None:
            check.found(
                ("datasets", name, "mixture"), mixtures.faults(config, dataset.mixture, raw)
            )
            continue
        check.source("datasets", name, dataset)
        check.format(name, dataset)
    for name, calibration in config.sections["calibration"].items():
        check.split("calibration", name, calibration.dataset, "split", calibration.split)
    for name, prune in config.sections["prune"].items():
        check.prune(("prune", name), prune)
    for name, finetune in config.sections["finetune"].items():
        check.finetune(("finetune", name), finetune)
    for name, metric in config.sections["metrics"].items():
        check.metric(name, metric)
    for name, task in config.sections["tasks"].items():
        check.task(name, task)
    for name, evaluation in config.sections["evaluations"].items():
        check.evaluation(name, evaluation)
    for name, study in config.sections["studies"].items():
        check.study(name, study)
    check.found(("claims",), conclusion_checks.faults(config, raw))
    return check.faults


class _Check:
    def __init__(self, config: Config, raw: Mapping[str, Any], place: Callable[..., str]) -> None:
        self.config, self.raw, self.place = config, raw, place
        self.faults: list[str] = []

    def add(self, keys: Iterable[Any], text: str) -> None:
        self.faults.append(f"{self.place(*keys)} {text}")

    def found(self, keys: tuple, faults: Iterable[Any]) -> None:
        """Record faults whose keys are below some."""
        for fault in faults:
            self.add((*keys, *fault.keys), fault.text)

    def name(self, keys: tuple, section: str, name: str | None) -> Any:
        """Return the named profile; record a fault where there is none."""
        if name is None:
            return None
        raw = self.raw.get(section)
        raw = raw if isinstance(raw, Mapping) else {}
        if name not in raw:
            known = nearest(name, raw)
            self.add(keys, f"is '{name}', which is not in `{section}`; {known}")
        return self.config.sections[section].get(name)

    def source(self, section: str, name: str, profile: Any) -> None:
        try:
            source = parse_source(profile.source, self.config.base)
        except ValueError as error:
            self.add((section, name, "source"), f"is '{profile.source}': {error}")
            return
        for keys, text in leaving(profile):
            self.add((section, name, *keys), f"is {text!r}, which leads out of its folder")
        belongs = {
            "revision": ("hf",),
            "sha256": ("pypi",),
            "subset": ("hf",),
            "file": ("hf", "pypi"),
        }
        for key, kinds in belongs.items():
            if getattr(profile, key, None) is not None and source["kind"] not in kinds:
                self.add(
                    (section, name, key), f"is not used by a {source['kind']} source; remove it"
                )

    def format(self, name: str, dataset: profiles.Dataset) -> None:
        if dataset.format or dataset.source.startswith(("hf:", "random:", NUMBERS)):
            return
        files = dataset.files or dataset.source
        names = files.values() if isinstance(files, Mapping) else [files]
        forms = {format_of(file) for file in names}
        if None in forms:
            self.add(
                ("datasets", name, "format"), "is missing, and the file's ending does not tell"
            )
        elif len(forms) > 1:
            told = " and ".join(sorted(filter(None, forms)))
            self.add(
                ("datasets", name, "files"), f"are {told}; expected one format; convert the others"
            )

    def split(self, section: str, name: str, dataset: str, key: str, split: str) -> None:
        profile = self.name((section, name, "dataset"), "datasets", dataset)
        if profile is not None and split not in profile.splits:
            known = nearest(split, profile.splits)
            self.add((section, name, key), f"is '{split}', no split of '{dataset}'; {known}")
        if profile is not None and profile.kind == "rows":
            fault = f"is '{dataset}', of kind rows, which only tasks and mixtures read"
            self.add((section, name, "dataset"), fault)

    def prune(self, keys: tuple, prune: profiles.Prune) -> None:
        if prune.method == "dense":
            return
        try:
            facts = plugins.facts_for(prune.method, prune.pattern)
        except PrunegridError as error:
            self.add((*keys, "method"), f"is '{prune.method}': {error.what}; {error.remedy}")
            return
        for key in prune.model_extra or {}:
            if key not in facts["SETTINGS"]:
                known = nearest(key, set(profiles.Prune.model_fields) | set(facts["SETTINGS"]))
                self.add((*keys, key), f"is not a setting of {prune.method}; {known}")
        if prune.scope is not None and prune.scope not in facts.get("SCOPES", ()):
            known = " or ".join(facts["SCOPES"])
            self.add((*keys, "scope"), f"is '{prune.scope}'; {prune.method} knows {known}")
        needy = [prune.method] if facts["NEEDS"] != "nothing" else []
        needy += self.part(keys, "update", prune.update, prune.update_settings)
        needy += self.part(keys, "allocation", prune.allocation, prune.allocation_settings)
        if not needy and prune.calibration is not None:
            self.add((*keys, "calibration"), f"is not used by {prune.method}; remove it")
        if needy and prune.calibration is None:
            self.add((*keys, "calibration"), f"is missing: {needy[0]} needs calibration samples")
        if prune.biases and facts["NEEDS"] != "nothing":
            self.add((*keys, "biases"), f"{prune.method} cannot prune biases; remove it")
        self.name((*keys, "calibration"), "calibration", prune.calibration)

    def part(self, keys: tuple, kind: str, name: str | None, settings: Mapping) -> list[str]:
        """Check an update or allocation; return its name in a list where it needs calibration."""
        if name is None:
            return []
        look = {"update": plugins.update_facts, "allocation": plugins.allocation_facts}[kind]
        try:
            facts = look(name)
        except PrunegridError as error:
            self.add((*keys, kind), f"is '{name}': {error.what}; {error.remedy}")
            return []
        for key in settings:
            if key not in facts["SETTINGS"]:
                known = nearest(key, facts["SETTINGS"])
                self.add((*keys, f"{kind}_settings", key), f"is not a setting of {name}; {known}")
        return [name] if facts["NEEDS"] != "nothing" else []

    def finetune(self, keys: tuple, finetune: profiles.Finetune) -> None:
        known = plugins.strategy_facts(finetune.strategy)["SETTINGS"]
        for key, value in (finetune.model_extra or {}).items():
            if key not in known:
                fields = set(profiles.Finetune.model_fields) | set(known)
                hint = successor_of_key("finetune", key, fields)
                self.add((*keys, key), f"is not a key here; {hint}")
            elif isinstance(value, bool) or not isinstance(value, (type(known[key]), int)):
                self.add((*keys, key), f"is {value!r}; expected one like {known[key]!r}")
        self.name((*keys, "calibration"), "calibration", finetune.calibration)

    def metric(self, name: str, metric: profiles.Metric) -> None:
        keys = ("metrics", name)
        try:
            facts = plugins.metric_facts(metric.module, self.config.base)
        except PrunegridError as error:
            self.add((*keys, "module"), f"is '{metric.module}': {error.what}; {error.remedy}")
            return
        if facts is None and "/" in metric.module and "revision" not in (metric.model_extra or {}):
            self.add((*keys, "revision"), "is missing: the code of a community's metric may change")
        if facts is not None:
            for key in metric.model_extra or {}:
                if key not in facts["SETTINGS"]:
                    known = nearest(key, facts["SETTINGS"])
                    self.add((*keys, key), f"is not a setting of {metric.module}; {known}")
            if facts["NEEDS_MODEL"] != (metric.model is not None):
                fault = "is missing" if metric.model is None else "is not used"
                self.add((*keys, "model"), f"{fault}: see the metric {metric.module}")
            for read in sorted(set(facts["READS"]) - plugins.METRICS_READ):
                known = nearest(read, plugins.METRICS_READ)
                self.add((*keys, "module"), f"has READS that name '{read}'; {known}")
        model = self.name((*keys, "model"), "models", metric.model)
        if model is not None and not model.tokenizer:
            self.add((*keys, "model"), f"is '{metric.model}', which has no tokenizer")

    def task(self, name: str, task: profiles.Task) -> None:
        self.name(("tasks", name, "dataset"), "datasets", task.dataset)
        self.found(("tasks", name), benchmarks.task_faults(self.config, task))

    def evaluation(self, name: str, evaluation: Any) -> None:
        keys = ("evaluations", name)
        for key, section in evaluation.REFERS.items():
            named = getattr(evaluation, key)
            for one in named if isinstance(named, list) else [named]:
                self.name((*keys, key), section, one)
        self.found(keys, evaluation.faults(self.config))

    def study(self, name: str, study: profiles.Study) -> None:
        keys = ("studies", name)
        self.name((*keys, "dataset"), "datasets", study.dataset)
        self.name((*keys, "efficiency"), "efficiency", study.efficiency)
        for evaluation in study.evaluations:
            self.name((*keys, "evaluations"), "evaluations", evaluation)
        self._shared_splits(keys, study)
        try:
            cells = expand(self.config, name, known=self.raw)
        except GridError as error:
            self.faults += [
                f"{self.place(*keys, *fault.keys)} {fault.text}" for fault in error.faults
            ]
            return
        inline = {
            (step.name, step.profile.model_dump_json()): step
            for cell in cells
            for step in cell.steps
            if step.inline
        }
        for step in inline.values():
            look = {"prune": self.prune, "finetune": self.finetune}[step.kind]
            look((*keys, f"grid ({step.kind} {step.name})"), step.profile)
        self._distinct_rows(keys, cells)
        self._biases(keys, cells)
        if not self._whole(name):
            return
        self._models(keys, study, cells)
        if not cells:
            self.add(keys, "has no cell: its grid is empty or all of it is excluded")
        found = [
            *selectors.faults(self.config, study, cells, self.raw),
            *split_checks.faults(self.config, study, cells),
            *contrasts.faults(self.config, study, cells, self.raw),
            *(shown.faults(self.config, study) if study.show else ()),
        ]
        self.found(keys, found)

    def _whole(self, study: str) -> bool:
        """Whether all profiles that a study has are valid: cells of others are left out."""
        broken = {
            name
            for section in ("models", "datasets", "prune", "finetune")
            for name in self.raw.get(section) or ()
            if name not in self.config.sections[section]
        }
        named = {"dense", "none", *_scalars(self.raw["studies"][study])}
        return broken.isdisjoint(named)

    def _distinct_rows(self, keys: tuple, cells: list) -> None:
        """Chains of the same steps in another order would be rows of the same key columns."""
        seen: set[tuple] = set()
        for cell in cells:
            row = (cell.model, cell.dataset, cell.names("prune"), cell.names("finetune"), cell.seed)
            if row in seen:
                self.add(
                    (*keys, "grid"), f"has two cells that the table could not tell apart: {row}"
                )
            seen.add(row)

    def _biases(self, keys: tuple, cells: list) -> None:
        """Tuning keeps the zeros of weights; those of biases it would fill."""
        for cell in cells:
            tuned = [s for s in cell.steps if s.kind == "finetune" and not s.idle]
            pruned = [s for s in cell.steps if s.kind == "prune" and s.profile.biases]
            if tuned and pruned:
                fault = f"tunes ({tuned[0].name}) what '{pruned[0].name}' pruned with biases"
                self.add((*keys, "grid"), f"{fault}; remove `biases` or the fine-tuning")
                return

    def _models(self, keys: tuple, study: Any, cells: list) -> None:
        """What is evaluated fits an evaluation; weights of any model are counted."""
        if study.kind == "census":
            self.found(keys, census_checks.faults(self.config, cells))
            return
        models = sorted({cell.model for cell in cells})
        self.found(keys, evaluation_checks.model_faults(self.config, study.evaluations, models))

    def _shared_splits(self, keys: tuple, study: profiles.Study) -> None:
        """Two evaluations of texts on one split would write to the same columns."""
        seen: dict[str, str] = {}
        for name in dict.fromkeys(study.evaluations):
            profile = self.config.sections["evaluations"].get(name)
            if profile is None:
                continue
            if profile.OWN_SPLITS and seen.setdefault(name, name) != name:
                self.add((*keys, "evaluations"), f"{name} has the name of a split; rename it")
            measured = profile.measures(self.config, name)
            for split in [*profile.columns_of(), *measured]:
                if seen.setdefault(split, name) != name:
                    kind = "task" if split in measured else "split"
                    fault = f"both {seen[split]} and {name} are of the {kind} '{split}'"
                    self.add((*keys, "evaluations"), f"{fault}; put them into two studies")


def _scalars(value: Any) -> Iterator[Any]:
    """Yield what stands at the leaves of nested mappings and lists."""
    if isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _scalars(each)
    else:
        yield value
