"""Plugins: pruning methods, strategies, updates, allocations, metrics, baselines, a file each.

A config names each by its file, so adding one edits no other file. What a plugin needs and accepts
stands in literal constants of its file, which are read without importing it.

A user's own file is named by its path. From then on it is a plugin like the others, called by the
file's name with its ending (`mine.py`), which no plugin of the library has.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.common.source_code import LIBRARY, facts, literals

# What a metric may read beside prediction and reference, by its READS.
METRICS_READ = {"document", "template"}


# {kind of plugin: (its folder, the constant that each of its files declares)}.
KINDS = {
    "pruning method": ("pruning/criteria", "NEEDS"),
    "criterion of structured pruning": ("pruning/structured", "NEEDS"),
    "update": ("pruning/updates", "NEEDS"),
    "allocation": ("pruning/allocation", "NEEDS"),
    "strategy": ("finetuning/strategies", "TRAINS"),
    "baseline": ("evaluation/baselines", "ROLE"),
    "metric": ("evaluation/metrics", "COLUMNS"),
}
# The setting of a step that tells its job where a user's own plugins lie: {kind: paths}.
OWN = "own_files"


def _file(kind: str, name: str) -> Path:
    """Return the file of a plugin of the library."""
    known = files(kind)
    if name not in known:
        raise PrunegridError(f"there is no {kind} '{name}'", remedy=nearest(name, known))
    return known[name]


@functools.cache
def files(kind: str) -> dict[str, Path]:
    """Return {name: file} of the library's plugins of a kind."""
    folder, marker = KINDS[kind]
    found = sorted((LIBRARY / "prunegrid" / folder).glob("*.py"))
    return {path.stem: path for path in found if marker in literals(path)}


@functools.cache
def settings_of_all(kind: str) -> dict[str, Any]:
    """Return the settings of all of the library's plugins of a kind together."""
    found: dict[str, Any] = {}
    for name, path in files(kind).items():
        found |= {} if is_own(name) else literals(path).get("SETTINGS", {})
    return found


def method_facts(method: str) -> dict[str, Any]:
    """Return {NEEDS, SETTINGS, DRAWS, SCOPE, SCOPES} of a pruning method.

    This and the functions below raise a PrunegridError where there is no plugin of the name.
    """
    defaults = {"SETTINGS": {}, "DRAWS": False, "SCOPES": ("row", "layer")}
    return defaults | literals(_file("pruning method", method))


def criterion_facts(name: str) -> dict[str, Any]:
    """Return {NEEDS, SETTINGS, DRAWS, UNITS} of a criterion of structured pruning."""
    defaults = {"UNITS": ("mlp", "heads", "blocks")}
    return defaults | literals(_file("criterion of structured pruning", name))


def facts_for(method: str, pattern: str) -> dict[str, Any]:
    """Return {NEEDS, SETTINGS, DRAWS, …} of a pruning step's method under its pattern."""
    return criterion_facts(method) if pattern == "structured" else method_facts(method)


def update_facts(name: str) -> dict[str, Any]:
    """Return {NEEDS, SETTINGS} of an update of the weights that stay."""
    return literals(_file("update", name))


def allocation_facts(name: str) -> dict[str, Any]:
    """Return {NEEDS, SETTINGS} of a layer-wise allocation."""
    return literals(_file("allocation", name))


def strategy_facts(name: str) -> dict[str, Any]:
    """Return {TRAINS, FITS, KEYS, SETTINGS, ADAPTERS, PLAIN, MEMORY, COPY, HELD} of a strategy."""
    defaults = {"SETTINGS": {}, "ADAPTERS": (), "PLAIN": {}, "COPY": 0, "HELD": 0}
    return defaults | literals(_file("strategy", name))


def baseline_facts(method: str) -> dict[str, Any]:
    """Return {ROLE, SETTINGS, DRAWS, READS} of a baseline."""
    defaults = {"DRAWS": False, "READS": ()}
    return defaults | literals(_file("baseline", method))


def draws(method: str, pattern: str) -> bool:
    """Return whether a pruning method draws random numbers of its own; False if it is unknown."""
    try:
        return facts_for(method, pattern)["DRAWS"]
    except PrunegridError:
        return False


def metric_file(module: str, base: Path) -> Path | None:
    """Return the file of a metric: one of the library's, or a user's by its path; None for `hf:`.

    Raises:
        PrunegridError: there is no such metric.
    """
    if module.startswith("hf:"):
        return None
    if module.endswith(".py") or "/" in module:
        path = base / Path(module).expanduser()
        if not path.is_file():
            raise PrunegridError(f"there is no file {path}", remedy="give the path of a .py file")
        return path.resolve()
    return _file("metric", module)


def is_plain_metric(path: Path) -> bool:
    """Return whether a metric file defines `compute`; if not, it is an `evaluate` module."""
    return "compute" in facts(path).definitions


def metric_packages(module: str, base: Path) -> tuple[str, ...]:
    """Return the packages that a metric's scores depend on, beside those of every metric."""
    path = metric_file(module, base)
    if path is None:
        return ("evaluate",)
    own = tuple(literals(path).get("PACKAGES", ()))
    return own if is_plain_metric(path) else ("evaluate", *own)


def metric_facts(module: str, base: Path) -> dict[str, Any] | None:
    """Return {SETTINGS, COLUMNS, NEEDS_MODEL, READS} of a metric; None for one of the hub."""
    path = metric_file(module, base)
    defaults = {"SETTINGS": {}, "COLUMNS": {}, "NEEDS_MODEL": False, "READS": ()}
    return None if path is None else defaults | literals(path)


def metric_columns(name: str, module: str, base: Path) -> dict[str, bool | None] | None:
    """Return {column: higher is better} of a metric of the config; None for one of the hub."""
    path = metric_file(module, base)
    if path is None:
        return None
    return {
        column_name(name, path.stem, key): about.get("higher_is_better")
        for key, about in literals(path).get("COLUMNS", {}).items()
    }


def column_name(name: str, stem: str, key: str, declared: bool = True) -> str:
    """Return the table's column of a score that a metric's module returns as `key`.

    Args:
        name: of the metric in the config.
        stem: of its module's file.
        declared: whether the module declares its columns.
    """
    if key == stem:
        return name  # bertscore of a metric named bertscore_minilm is bertscore_minilm
    return key if name == stem and declared else f"{name}_{key}"


def add(kind: str, path: Path) -> str:
    """Make a user's file a plugin of a kind; return its name."""
    files(kind)[path.name] = path
    return path.name


def is_own(name: str | None) -> bool:
    """Return whether a plugin's name is that of a user's file."""
    return name is not None and name.endswith(".py")


def own_files(used: Iterable[tuple[str, str | None]]) -> dict[str, dict[str, list[str]]]:
    """Return the setting OWN of the user's files among (kind, name) of plugins; {} without any."""
    found: dict[str, list[str]] = {}
    for kind, name in used:
        if is_own(name):
            found.setdefault(kind, []).append(str(_file(kind, name)))
    return {OWN: found} if found else {}


def root(kind: str, name: str, part: str = "") -> str | Path:
    """Return what counts in a key: a plugin's module (or `part` of it), or a user's whole file."""
    folder = KINDS[kind][0].replace("/", ".")
    return _file(kind, name) if is_own(name) else f"prunegrid.{folder}.{name}{part}"


class _FromSource(importlib.machinery.SourceFileLoader):
    """Loads a file from its source: the cache of compiled code knows an edit by its second."""

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Say that nothing is known of the source, so that no compiled code fits it."""
        raise OSError(path)


def import_file(name: str, path: Path) -> ModuleType:
    """Return the module that a user's file makes, known to Python by a name from then on."""
    loader = _FromSource(name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def load(own: Mapping[str, Iterable[str]]) -> None:
    """Load a user's files, so that steps find them where those of the library are.

    Args:
        own: {kind: paths}.

    Raises:
        PrunegridError: a file cannot be loaded.
    """
    for kind, paths in own.items():
        for path in map(Path, paths):
            name = str(root(kind, "x")).removesuffix("x") + add(kind, path)
            try:
                import_file(name, path)
            except Exception as error:
                what = f"cannot be loaded ({type(error).__name__}: {error})"
                raise PrunegridError(what, where=str(path)) from error
