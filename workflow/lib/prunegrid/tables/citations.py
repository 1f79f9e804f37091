"""Works that a study's table stands on: those of its methods, metrics, models, data and software.

A file of a method or metric names its works in `CITE`. `references.bib` has an entry for each, and
names in `sources` the sources of models and data that an entry is of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from prunegrid.common import plugins
from prunegrid.common.nm_pattern import parse_nm
from prunegrid.common.source_code import literals
from prunegrid.tables.study_tables import StudyTables

BIBLIOGRAPHY = Path(__file__).with_name("references.bib")
SOFTWARE = {
    "Snakemake": "molder2021sustainable",
    "torch": "ansel2024pytorch",
    "transformers": "wolf2020transformers",
}
HARNESS = "biderman2024lessons"
CORRECTION = "prunegrid.pruning.structured.output_correction"  # the update of whole units
COMPARED = ("distances", "answers")  # stages of what a paper made up
NM = "mishra2021accelerating"  # of patterns that keep N of M
_ENTRY = re.compile(r"^@\w+\{(?P<key>[^,]+),\n.*?^\}$", re.MULTILINE | re.DOTALL)
_SOURCES = re.compile(r"^  sources = \{(.*)\},\n", re.MULTILINE)


class Cited(NamedTuple):
    """A thing that a table used, and the works that it comes from."""

    kind: str  # method, update, allocation, recovery, metric, control, model, data, software, …
    name: str
    keys: tuple[str, ...]


def bibliography() -> dict[str, str]:
    """Return {key: entry in BibTeX}, without the fields that only prunegrid reads."""
    text = BIBLIOGRAPHY.read_text(encoding="utf-8")
    return {entry["key"]: _SOURCES.sub("", entry[0]) for entry in _ENTRY.finditer(text)}


def of_source(source: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of the works that a model or data set comes from, by its source's record."""
    name = re.split("==|@", source["name"])[0]
    found = []
    for entry in _ENTRY.finditer(BIBLIOGRAPHY.read_text(encoding="utf-8")):
        patterns = _SOURCES.search(entry[0])
        if patterns and any(fnmatchcase(name, pattern) for pattern in patterns[1].split()):
            found.append(entry["key"])
    return tuple(found)


def of_plugin(kind: str, name: str) -> tuple[str, ...]:
    """Return the keys of the works that a plugin of the library comes from; () of a user's own."""
    path = plugins.files(kind).get(name)
    return tuple(literals(path).get("CITE", ())) if path else ()


def cited(tables: StudyTables) -> list[Cited]:
    """Return what a table used with the works it comes from, each once, in the order of use.

    Raises:
        AttestationError: an artifact that the table names is gone.
    """
    steps = tables.steps()
    found = [one for manifest in steps for one in _of_step(manifest)]
    if any(manifest["stage"] == "tasks" for manifest in steps):
        found.append(Cited("software", "lm-evaluation-harness", (HARNESS,)))
    ran = {"Snakemake", *(name for step in steps for name in step.get("versions", ()))}
    found += [Cited("software", name, (key,)) for name, key in SOFTWARE.items() if name in ran]
    return list(dict.fromkeys(found))


def _of_step(manifest: Mapping[str, Any]) -> Iterator[Cited]:
    """Yield what one step used."""
    stage = manifest["stage"]
    settings, source = manifest["settings"], manifest["record"].get("source")
    if source:
        kind = "model" if stage == "model" else "data"
        name = manifest["label"].removeprefix(f"{kind} ")
        yield Cited(kind, name, of_source(source))
    elif stage == "prune":
        yield from _of_pruning(settings)
    elif stage in COMPARED:
        yield Cited("evaluation", stage, tuple(literals(f"prunegrid.stages.{stage}")["CITE"]))
    elif stage in ("finetune", "transform"):
        yield _plugin("recovery", "strategy", settings["strategy"])
    for name, metric in _metrics(settings).items():
        # A user's own file may have the name of one that ships.
        ours = str(metric.get("path")).endswith(f"/evaluation/metrics/{metric['module']}.py")
        yield Cited("metric", name, of_plugin("metric", metric["module"]) if ours else ())
    for control in settings.get("controls", ()):
        yield _plugin("control", "baseline", control["method"])


def _metrics(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return {name: settings} of the metrics of texts; those of benchmarks are names alone."""
    metrics = settings.get("metrics")
    return metrics if isinstance(metrics, Mapping) else {}


def _of_pruning(settings: Mapping[str, Any]) -> Iterator[Cited]:
    structured = settings["pattern"] == "structured"
    kind = "criterion of structured pruning" if structured else "pruning method"
    yield _plugin("method", kind, settings["method"])
    if parse_nm(settings["pattern"]):
        yield Cited("pattern", settings["pattern"], (NM,))
    if settings.get("refine"):
        yield _plugin("refine", "refine", settings["refine"])
    if settings.get("update") not in (None, "none"):
        corrected = literals(CORRECTION)["CITE"]
        known = corrected if structured else of_plugin("update", settings["update"])
        yield Cited("update", settings["update"], known)
    if settings.get("allocation") not in (None, "uniform"):
        yield _plugin("allocation", "allocation", settings["allocation"])


def _plugin(kind: str, plugin: str, name: str) -> Cited:
    return Cited(kind, name, of_plugin(plugin, name))


def bibtex(used: Iterable[Cited]) -> str:
    """Return the entries of the works that were used, each once, in alphabetical order."""
    entries = bibliography()
    keys = sorted({key for one in used for key in one.keys})
    return "\n\n".join(entries[key] for key in keys) + "\n"
