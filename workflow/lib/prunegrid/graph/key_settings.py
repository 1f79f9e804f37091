"""The settings of each step: exactly the part of the config that it reads, in plain builtins.

They enter the step's key, so a setting that the step does not read would rerun it for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prunegrid.artifacts.file_digests import source_digest
from prunegrid.artifacts.keys import digest
from prunegrid.common import packed_kernels, plugins
from prunegrid.common.data_formats import format_of
from prunegrid.common.precision import AUTO
from prunegrid.config import mixtures, profiles
from prunegrid.config.evaluations.texts import Baseline
from prunegrid.config.prune_step import NOT_STRUCTURED, OF_STRUCTURED
from prunegrid.config.sources import parse_source, split_read
from prunegrid.config.validated import Config


class Slices:
    """The settings of the steps of a config."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def _source(self, profile: Any) -> dict[str, Any]:
        source = parse_source(profile.source, self.config.base)
        if source["kind"] == "hf":
            source["revision"] = profile.revision or "main"
        return source

    def model(self, name: str) -> dict[str, Any]:
        """Return the slice of a model: its source, the dtype, the task."""
        profile = self.config.profile("models", name)
        source = self._source(profile)
        if source["kind"] == "local":
            source["digest"] = source_digest(source, is_model=True)
        elif source["kind"] == "pypi":
            source |= {"file": profile.file, "sha256": profile.sha256}
        elif source["kind"] == "random":
            source |= {"config": profile.config, "seed": profile.seed}
        elif source["kind"] == "hf" and profile.file:
            source["file"] = profile.file
        if profile.note:
            source["note"] = profile.note
        if profile.parameters:
            source["parameters"] = int(profile.parameters)
        settings = {"source": source, "dtype": self.config.dtype, "task": profile.task}
        return settings if profile.tokenizer else settings | {"tokenizer": False}

    def data(self, name: str, splits: Sequence[str] | None = None) -> dict[str, Any]:
        """Return the slice of a data set: its source, columns and splits; not its prompt.

        Args:
            splits: those that are read; None for all.
        """
        profile = self.config.profile("datasets", name)
        chosen = {split: profile.splits[split] for split in splits or profile.splits}
        source = self._source(profile)
        for key in ("files", "sha256", "subset"):
            if getattr(profile, key) is not None:
                source[key] = getattr(profile, key)
        if source["kind"] == "local":
            if isinstance(profile.files, dict):
                read = {split_read(expression) for expression in chosen.values()}
                source["files"] = {k: v for k, v in profile.files.items() if k in read}
            source["digest"] = source_digest(source, is_model=False)
        form = profile.format
        if form is None and source["kind"] != "hf":
            formats = {format_of(file) for file in profile.named_files}
            # Of several formats, and in folders, each file has that of its ending.
            form = formats.pop() if len(formats) == 1 else None
        own = {"leaks": profile.leaks} if profile.leaks == "refuse" else {}
        return {
            **own,
            "source": source,
            "kind": profile.kind,
            "format": form,
            "columns": dict(profile.columns),
            "splits": chosen,
        }

    def rows(self, name: str, splits: Sequence[str]) -> dict[str, Any]:
        """Return the slice of some splits of a data set whose rows are items."""
        whole = self.data(name, splits)
        read = ("columns",) if whole["kind"] == "cloze" else ()
        return {key: whole[key] for key in ("source", "format", "splits", *read)}

    def mixture(self, name: str) -> tuple[dict[str, Any], dict[str, tuple[str, str]]]:
        """Return (slice, {role: (data set, split)}) of a mixture: what is mixed, what is barred.

        Names of data sets are not in it: their artifacts are its parents.
        """
        profile = self.config.profile("datasets", name)
        mixture = profile.mixture
        settings: dict[str, Any] = {
            "parts": {},
            "disjoint_from": [],
            "splits": dict(profile.splits),
        }
        settings |= {"rows": mixture.rows, "leaks": mixture.leaks, "seed": self.config.seed}
        members = {}
        for label, part in mixture.parts.items():
            body = part.model_dump(exclude={"dataset"})
            settings["parts"][label] = body | self._known_by(part.dataset)
            members[f"parts.{label}"] = (part.dataset, part.split)
        for dataset, split in mixtures.evaluated_splits(self.config, mixture.disjoint_from):
            members[f"disjoint_from.{len(settings['disjoint_from'])}"] = (dataset, split)
            settings["disjoint_from"].append({"split": split, **self._known_by(dataset)})
        return settings, members

    def _known_by(self, name: str) -> dict[str, Any]:
        """Return what a row of a data set is known by in the leak check.

        Its columns; and the source, since an id says something of rows of the same one only.
        """
        profile = self.config.profile("datasets", name)
        source = {k: v for k, v in self.data(name)["source"].items() if k not in ("path", "note")}
        return {
            "of": digest(source),
            "id": profile.id_column,
            "text": profile.text_columns,
        }

    def calibration(self, name: str, seed: int | None) -> dict[str, Any]:
        """Return the slice of calibration samples; the windows are drawn, so the seed is in it."""
        profile = self.config.profile("calibration", name)
        column = self.config.profile("datasets", profile.dataset).read_column
        settings = {**profile.model_dump(exclude={"dataset"}), "column": column}
        return {**settings, "seed": self.config.seed_of(seed)}

    def prune(self, profile: profiles.Prune, seed: int | None) -> dict[str, Any]:
        """Return the slice of a pruning step, the method's own settings filled in."""
        facts = plugins.facts_for(profile.method, profile.pattern)
        structured = profile.pattern == "structured"
        unused = {"calibration", *(NOT_STRUCTURED if structured else OF_STRUCTURED)}
        settings = {**facts["SETTINGS"], **profile.model_dump(exclude=unused)}
        if structured:
            settings |= {"units": sorted(profile.units), "update": profile.update or "none"}
            settings |= {} if "mlp" in profile.units else {"multiple": 1}
        else:
            for kind, name in plugins.parts_of(profile).items():
                known, key = plugins.part_facts(kind, name)["SETTINGS"], f"{kind}_settings"
                settings[key] = {**known, **settings[key]}
            # Left at their defaults they are in no key.
            for key in ("exclude", "allow_unprunable", "refine", "refine_settings"):
                if not settings[key]:
                    del settings[key]
        kind = "criterion of structured pruning" if structured else "pruning method"
        used = [(kind, profile.method), *plugins.parts_of(profile).items()]
        settings |= plugins.own_files(used)
        return settings | ({"seed": self.config.seed_of(seed)} if facts["DRAWS"] else {})

    def finetune(
        self, profile: profiles.Finetune, dataset: str, seed: int | None
    ) -> dict[str, Any]:
        """Return the slice of a fine-tuning step, without the keys of other strategies."""
        facts = plugins.strategy_facts(profile.strategy)
        unused = profile.unused() | profile.idle() | {"calibration", "window"}
        settings = {key: value for key, value in profile.settings().items() if key not in unused}
        settings |= plugins.own_files([("strategy", profile.strategy)])
        if "adapter" in settings:
            settings["adapter"] = profile.way
        if not facts["TRAINS"]:
            return settings | ({"seed": self.config.seed_of(seed)} if profile.draws else {})
        if profile.autocast == AUTO:
            settings["autocast"] = self.config.resolved_dtype
        return {
            **settings,
            **self._learned(profile, dataset),
            "seed": self.config.seed_of(seed),
        }

    def _learned(self, profile: profiles.Finetune, dataset: str) -> dict[str, Any]:
        """Return how a data set becomes examples: windows of its text, or prompts and summaries."""
        found = self.config.profile("datasets", dataset)
        if found.kind == "text":
            return {"window": profile.window, "column": "text"}
        return {
            "prompt": self.config.profile("datasets", dataset).prompt_settings(),
            "max_summary_tokens": found.max_summary_tokens,
        }

    def controls(
        self, name: str, dataset: str, split: str
    ) -> tuple[dict[str, Any], dict[str, str], tuple, tuple]:
        """Return the slice of an evaluation's controls, in order, and the rest as of `scores`.

        Their names are not in it; the seed is only where one of them draws.
        """
        evaluation = self.config.profile("evaluations", name)
        scored, models, roots, packages = self.scores(evaluation.metrics, dataset, split)
        controls = evaluation.baselines.values()
        settings = {
            "documents": {"split": split, "rows": evaluation.rows},
            "controls": [self._control(profile, dataset) for profile in controls],
            **scored,
        }
        if any(plugins.baseline_facts(profile.method)["DRAWS"] for profile in controls):
            settings["seed"] = self.config.seed
        settings |= plugins.own_files(("baseline", profile.method) for profile in controls)
        written = (plugins.root("baseline", profile.method) for profile in controls)
        return settings, models, (*dict.fromkeys(written), *roots), packages

    def _control(self, profile: Baseline, dataset: str) -> dict[str, Any]:
        """Return the slice of one control; the prompt is in it only where the control reads it."""
        facts = plugins.baseline_facts(profile.method)
        settings = {**facts["SETTINGS"], **(profile.model_extra or {})}
        read = {}
        if "prompt" in facts["READS"]:
            read["prompt"] = self.config.profile("datasets", dataset).template_settings()
        return {"method": profile.method, "settings": settings, **read}

    def scores(
        self, names: list[str], dataset: str, split: str
    ) -> tuple[dict[str, Any], dict[str, str], tuple, tuple]:
        """Return (settings, {metric: model name}, files, packages) of a list of metrics.

        The split is in it only where a metric reads the documents, and the prompt's template only
        where one reads that.
        """
        settings, models, roots, packages, reads = {}, {}, [], [], set()
        for name in names:
            profile = self.config.profile("metrics", name)
            path = plugins.metric_file(profile.module, self.config.base)
            facts = plugins.metric_facts(profile.module, self.config.base) or {}
            reads |= set(facts.get("READS", ()))
            settings[name] = {**facts.get("SETTINGS", {}), **(profile.model_extra or {})}
            settings[name]["module"] = profile.module if path is None else path.stem
            if profile.model:
                models[name] = profile.model
            packages += plugins.metric_packages(profile.module, self.config.base)
            if path is not None:
                settings[name]["path"] = str(path)
                roots.append(path)
        read: dict[str, Any] = {"split": split} if "document" in reads else {}
        if "template" in reads:
            prompt = self.config.profile("datasets", dataset).prompt_settings()
            read["template"] = f"{prompt['template']}\n{prompt['end']}"
        return {"metrics": settings, **read}, models, tuple(roots), tuple(packages)

    def efficiency(self, name: str) -> dict[str, Any]:
        """Return the slice of a timing; packed weights have values and this CPU's kernel."""
        profile = self.config.profile("efficiency", name)
        settings = profile.model_dump(exclude={"passes", "form", "values"})
        packed = {"values": profile.values, "kernel": packed_kernels.planned()}
        return {**settings, "packed": packed if profile.form == "packed" else None}

    def census(self, name: str) -> dict[str, Any]:
        """Return the slice of a study's census: its edges; how they are shown is the table's."""
        return {"edges": list(self.config.profile("studies", name).edges)}
