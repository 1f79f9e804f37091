"""What a config names by a file: pruning methods, strategies, updates, allocations, metrics, …

Each is found by the name of its file, so adding one edits no other file. What it needs and accepts
is read from its literal constants without importing it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.common.source_code import LIBRARY, functions, literals

_HERE = LIBRARY / "prunegrid"
# What a metric may read beside prediction and reference, by its READS.
METRICS_READ = {"document", "template"}


def _named(folder: Path, name: str, marker: str, what: str) -> Path:
    """Return the file `folder/name.py` that declares `marker`."""
    known = _declaring(folder, marker)
    if name not in known:
        raise PrunegridError(f"there is no {what} '{name}'", remedy=nearest(name, known))
    return known[name]


@functools.cache
def _declaring(folder: Path, marker: str) -> dict[str, Path]:
    return {p.stem: p for p in sorted(folder.glob("*.py")) if marker in literals(p)}


def method_facts(method: str) -> dict[str, Any]:
    """Return {NEEDS, SETTINGS, DRAWS, SCOPE, SCOPES} of a pruning method.

    Raises:
        PrunegridError: there is no such method.
    """
    facts = literals(_named(_HERE / "pruning/criteria", method, "NEEDS", "pruning method"))
    return {
        "NEEDS": facts["NEEDS"],
        "SETTINGS": facts.get("SETTINGS", {}),
        "DRAWS": facts.get("DRAWS", False),
        "SCOPE": facts["SCOPE"],
        "SCOPES": facts.get("SCOPES", ("row", "layer")),
    }


def criterion_facts(name: str) -> dict[str, Any]:
    """Return {NEEDS, SETTINGS, DRAWS} of a criterion of structured pruning.

    Raises:
        PrunegridError: there is no such criterion.
    """
    path = _named(_HERE / "pruning/structured", name, "NEEDS", "criterion of structured pruning")
    facts = literals(path)
    return {"NEEDS": facts["NEEDS"], "SETTINGS": facts["SETTINGS"], "DRAWS": facts["DRAWS"]}


def facts_for(method: str, pattern: str) -> dict[str, Any]:
    """Return {NEEDS, SETTINGS, DRAWS, …} of what a pruning step's method is under its pattern.

    Raises:
        PrunegridError: there is none.
    """
    return criterion_facts(method) if pattern == "structured" else method_facts(method)


def update_facts(name: str) -> dict[str, Any]:
    """Return {NEEDS, SETTINGS} of an update of the weights that stay.

    Raises:
        PrunegridError: there is no such update.
    """
    return _needs(_HERE / "pruning/updates", name, "update")


def allocation_facts(name: str) -> dict[str, Any]:
    """Return {NEEDS, SETTINGS} of a layer-wise allocation.

    Raises:
        PrunegridError: there is no such allocation.
    """
    return _needs(_HERE / "pruning/allocation", name, "allocation")


def _needs(folder: Path, name: str, what: str) -> dict[str, Any]:
    facts = literals(_named(folder, name, "NEEDS", what))
    return {"NEEDS": facts["NEEDS"], "SETTINGS": facts["SETTINGS"]}


def strategy_facts(name: str) -> dict[str, Any]:
    """Return {TRAINS, KEYS, SETTINGS, ADAPTERS, PLAIN, MEMORY, COPY, HELD} of a strategy.

    Raises:
        PrunegridError: there is no such strategy.
    """
    facts = literals(_named(_HERE / "finetuning/strategies", name, "TRAINS", "strategy"))
    return {
        "TRAINS": facts["TRAINS"],
        "KEYS": facts["KEYS"],
        "SETTINGS": facts.get("SETTINGS", {}),
        "ADAPTERS": facts.get("ADAPTERS", ()),
        "PLAIN": facts.get("PLAIN", {}),
        "MEMORY": facts["MEMORY"],
        "COPY": facts.get("COPY", 0),
        "HELD": facts.get("HELD", 0),
    }


def draws(method: str, pattern: str) -> bool:
    """Whether a pruning method draws random numbers of its own; False where it is unknown."""
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
        path = Path(module).expanduser()
        path = path if path.is_absolute() else base / path
        if not path.is_file():
            raise PrunegridError(f"there is no file {path}", remedy="give the path of a .py file")
        return path.resolve()
    return _named(_HERE / "evaluation/metrics", module, "COLUMNS", "metric")


def is_plain_metric(path: Path) -> bool:
    """Return whether a metric file has a function `compute`; if not, it is an `evaluate` module."""
    return "compute" in functions(path)


def metric_packages(module: str, base: Path) -> tuple[str, ...]:
    """Return the packages that a metric's scores depend on, beside those of every metric."""
    path = metric_file(module, base)
    own = () if path is None else tuple(literals(path).get("PACKAGES", ()))
    return own if path is not None and is_plain_metric(path) else ("evaluate", *own)


def metric_facts(module: str, base: Path) -> dict[str, Any] | None:
    """Return {SETTINGS, COLUMNS, NEEDS_MODEL, READS} of a metric, None for one of the hub."""
    path = metric_file(module, base)
    if path is None:
        return None
    facts = literals(path)
    return {
        "SETTINGS": facts.get("SETTINGS", {}),
        "COLUMNS": facts.get("COLUMNS", {}),
        "NEEDS_MODEL": facts.get("NEEDS_MODEL", False),
        "READS": facts.get("READS", ()),
    }


def metric_columns(name: str, module: str, base: Path) -> dict[str, bool | None] | None:
    """Return {column: higher is better} of a metric of the config; None for one of the hub.

    Columns are named as those that are scored are.
    """
    path, facts = metric_file(module, base), metric_facts(module, base)
    if path is None or facts is None:
        return None
    return {
        column_name(name, path.stem, key): about.get("higher_is_better")
        for key, about in facts["COLUMNS"].items()
    }


def column_name(name: str, stem: str, key: str, declared: bool = True) -> str:
    """Return the table's column of a metric's own column `key`.

    Args:
        name: of the metric in the config.
        stem: of its module's file.
        key: that the module returns.
        declared: whether the module declares its columns.
    """
    if key == stem:
        return name  # bertscore of a metric named bertscore_minilm is bertscore_minilm
    return key if name == stem and declared else f"{name}_{key}"


def baseline_facts(method: str) -> dict[str, Any]:
    """Return {ROLE, SETTINGS, DRAWS, READS} of a baseline.

    Raises:
        PrunegridError: there is no such baseline.
    """
    facts = literals(_named(_HERE / "evaluation/baselines", method, "ROLE", "baseline"))
    return {
        "ROLE": facts["ROLE"],
        "SETTINGS": facts["SETTINGS"],
        "DRAWS": facts.get("DRAWS", False),
        "READS": facts.get("READS", ()),
    }
