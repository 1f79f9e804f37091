"""Plugins that a config names by the path of a file: found, checked, and called by the file's name.

Methods, criteria of structured pruning, refinements, updates, allocations, strategies and controls
are taken so.
(Metrics have their own key, `module`, which takes a path too.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError
from prunegrid.common.source_code import facts, literals
from prunegrid.config.fault import Fault

# {kind of plugin: (functions of which it defines one, literals that it declares)}.
SHAPES = {
    "pruning method": (("prune_linear",), ("NEEDS", "SETTINGS", "SCOPE", "DRAWS", "UPDATES")),
    "criterion of structured pruning": (
        ("importance", "importance_of_block"),
        ("FITS", "NEEDS", "SETTINGS", "DRAWS"),
    ),
    "refine": (("refine_mask",), ("NEEDS", "SETTINGS")),
    "update": (("update_linear",), ("NEEDS", "SETTINGS")),
    "allocation": (("allocate",), ("NEEDS", "SETTINGS")),
    "strategy": (("tune", "transform"), ("TRAINS", "FITS", "KEYS", "MEMORY")),
    "baseline": (("predict",), ("ROLE", "SETTINGS")),
}
# {key of a profile: kinds of the plugin that it names}.
KEYS = {
    "method": ("pruning method", "criterion of structured pruning"),
    **{key: (key,) for key in plugins.PARTS},
    "strategy": ("strategy",),
}
CONTROL = {"method": ("baseline",)}
# The parts of a config that name plugins, and how.
PLACES = {"prune": KEYS, "finetune": KEYS, "evaluations": CONTROL, "studies": KEYS}


def named(raw: Mapping[str, Any], base: Path) -> tuple[dict[str, Any], list[Fault]]:
    """Return (the config with files' names in place of their paths, faults of those files).

    Args:
        raw: the merged config.
        base: the folder that relative paths start from.
    """
    faults: list[Fault] = []

    def name(keys: tuple, kinds: tuple[str, ...], text: str) -> str:
        path = (base / Path(text).expanduser()).resolve()
        kind, fault = _kind(path, kinds)
        other = plugins.files(kind).get(path.name, path)
        if not fault and other.is_file() and other.read_bytes() != path.read_bytes():
            fault = f"it has the name of {other}, which says something else; rename one of the two"
        if fault:
            faults.append(Fault(keys, f"is '{text}': {fault}"))
            return text
        return plugins.add(kind, path)

    result = dict(raw)
    for section, kinds in PLACES.items():
        if isinstance(raw.get(section), Mapping):
            result[section] = _renamed(raw[section], kinds, (section,), name)
    return result, faults


def _renamed(value: Any, kinds: Mapping, keys: tuple, name: Callable) -> Any:
    """Return a part of a config in which the paths of plugins are names."""
    if isinstance(value, list):
        return [_renamed(each, kinds, keys, name) for each in value]
    if not isinstance(value, Mapping):
        return value
    result = {}
    for key, inner in value.items():
        place = (*keys, key)
        if key in kinds and isinstance(inner, str | list):
            several = inner if isinstance(inner, list) else [inner]
            names = [name(place, kinds[key], n) if _is_path(n) else n for n in several]
            result[key] = names if isinstance(inner, list) else names[0]
        else:
            result[key] = _renamed(inner, kinds, place, name)
    return result


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and (value.endswith(".py") or "/" in value)


def _kind(path: Path, kinds: tuple[str, ...]) -> tuple[str, str]:
    """Return (kind of plugin of a file, its fault or "")."""
    if not path.is_file():
        return kinds[0], f"there is no file {path}; give the path of a .py file"
    if path.suffix != ".py":
        return kinds[0], "the file's name does not end in .py"
    try:
        definitions, declared = facts(path).definitions, literals(path)
    except PrunegridError as error:
        return kinds[0], str(error)
    for kind in kinds:
        functions, needed = SHAPES[kind]
        if any(function in definitions for function in functions):
            missing = [name for name in needed if name not in declared]
            return kind, f"it lacks {', '.join(missing)} as literals" if missing else ""
    wanted = " or ".join(function for kind in kinds for function in SHAPES[kind][0])
    return kinds[0], f"it defines no {wanted}"
