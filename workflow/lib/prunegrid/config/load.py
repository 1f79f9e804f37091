"""Validation of a whole config: all errors at once, each with its file, key and remedy."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import TypeAdapter, ValidationError

from prunegrid.common import precision
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.config import plain_data, profiles
from prunegrid.config.profile import Profile
from prunegrid.config.reference_checks import check_references

# Names become parts of paths.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# A dot would make one study's table another's long table.
STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
LONGEST_NAME = 100


class ConfigError(PrunegridError):
    """Every fault of a config, one a line."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        lines = "\n".join(f"  {fault}" for fault in faults)
        super().__init__(f"the configuration has {len(faults)} error(s):\n{lines}")

    def __reduce__(self):
        return (type(self), (self.faults,))


@dataclass(frozen=True)
class Config:
    """A validated config.

    Attributes:
        seed, threads, device, dtype, compute_dtype, memory, training, retention: the keys beside
            the sections.
        sections: {section: {name: profile}}.
        base: the folder that relative paths start from.
    """

    seed: int
    threads: int
    device: str
    dtype: str
    compute_dtype: str
    memory: dict[str, Any]
    training: dict[str, Any]
    retention: str
    sections: dict[str, dict[str, Any]]
    base: Path

    def profile(self, section: str, name: str) -> Any:
        """Return the named profile of a section."""
        return self.sections[section][name]

    def on(self, device: str, compute_dtype: str) -> Config:
        """Return the same config for another device and precision."""
        return dataclasses.replace(self, device=device, compute_dtype=compute_dtype)

    def leaves_open(self) -> bool:
        """Return whether a step may compute in what the device is fast in."""
        open_to_all = any(p.autocast == precision.AUTO for p in self.sections["finetune"].values())
        return self.compute_dtype == precision.AUTO and (open_to_all or self.dtype == "bfloat16")

    def require_resolved(self) -> None:
        """Check that what is left open can be settled here.

        Raises:
            PrunegridError: it cannot.
        """
        if self.leaves_open():
            _ = self.resolved_dtype

    @functools.cached_property
    def resolved_dtype(self) -> str:
        """What products are computed in where the config leaves it open: bfloat16 or float32.

        Raises:
            PrunegridError: it is auto, and the device cannot be seen here.
        """
        return precision.resolve(self.compute_dtype, self.device)


class Places:
    """Tells which file a key comes from, for error messages: read once there is one."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    @functools.cached_property
    def layers(self) -> list[tuple[Path, Any]]:
        """The files and what each holds."""
        return [(path, _read(path)) for path in self.files]

    def __call__(self, *keys: Any) -> str:
        """Return `file: dotted.key`, with the last of the files that holds most of the path."""
        best, depth = None, -1
        for path, tree in self.layers:
            level = 0
            for key in keys:
                if not isinstance(tree, Mapping) or key not in tree:
                    break
                tree, level = tree[key], level + 1
            if level >= depth:
                best, depth = path, level
        dotted = ".".join(str(key) for key in keys)
        return f"{best.name}: {dotted}" if best else dotted


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def read_files(files: list[Path]) -> dict[str, Any]:
    """Return the files merged as Snakemake merges them: mappings by key, all else replaced."""
    merged: dict[str, Any] = {}
    for path in files:
        try:
            layer = _read(path)
        except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
            raise PrunegridError(f"cannot be read ({error})", where=str(path)) from error
        if not isinstance(layer, Mapping):
            what = f"a {type(layer).__name__}"
            raise PrunegridError(what, where=str(path), expected="sections with names")
        if plain_data.faults(layer, Places([path])):
            raise ConfigError(plain_data.faults(layer, Places([path])))
        merge(merged, layer)
    return merged


def merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Lay a config over another, in place: mappings by key, all else replaced."""
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def validate(raw: Mapping[str, Any], files: list[Path], base: Path) -> Config:
    """Return the validated config.

    Args:
        raw: the merged config as Snakemake holds it.
        files: the files that it was merged from, first to last, to name the place of a fault.
        base: the folder that relative paths start from.

    Raises:
        ConfigError: any fault; its text lists them all.
    """
    places = Places(files)
    faults = plain_data.faults(raw, places)
    if faults:
        raise ConfigError(faults)
    known = set(profiles.SECTIONS) | set(profiles.Globals.model_fields)
    for key in raw:
        if key not in known:
            faults.append(f"{places(key)} is not a key of the config; {nearest(key, known)}")
    top = {key: raw[key] for key in profiles.Globals.model_fields if key in raw}
    settings = _parsed(profiles.Globals, top, (), places, faults)
    sections: dict[str, dict[str, Any]] = {}
    for section, kind in profiles.SECTIONS.items():
        sections[section] = _section(section, kind, raw.get(section, {}), places, faults)
    config = Config(
        **(settings or profiles.Globals()).model_dump(), sections=sections, base=Path(base)
    )
    faults += check_references(config, raw, places)
    if faults:
        raise ConfigError(faults)
    return config


def _section(section: str, kind: Any, raw: Any, places: Places, faults: list[str]) -> dict:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        faults.append(f"{places(section)} must be a mapping of names to profiles")
        return {}
    found = {}
    for name, body in raw.items():
        rule = STUDY_NAME if section == "studies" else NAME
        if (section, name) == ("studies", "claims"):
            faults.append(f"{places(section, name)}: results/claims.parquet is not a study's table")
            continue
        if not rule.fullmatch(name) or len(name) > LONGEST_NAME:
            faults.append(
                f"{places(section, name)}: a name holds letters, digits, '_', '-' (and '.', but "
                f"for a study's), starts with a letter or digit, and has at most {LONGEST_NAME}"
            )
            continue
        profile = _parsed(kind, body, (section, name), places, faults)
        if profile is not None:
            found[name] = profile
    return found


def _parsed(kind: Any, body: Any, keys: tuple, places: Places, faults: list[str]) -> Any:
    try:
        return TypeAdapter(kind).validate_python(body)
    except ValidationError as error:
        for item in error.errors():
            faults.append(_sentence(kind, item, keys, places))
    return None


def _sentence(kind: Any, item: Mapping, keys: tuple, places: Places) -> str:
    """Return one fault in words; `item` is one of pydantic's error dicts."""
    loc = item["loc"]
    if not isinstance(kind, type) and loc and loc[0] in profiles.TAGGED:
        loc = loc[1:]  # of which of several classes it is, pydantic says first
    where = places(*keys, *loc)
    if item["type"] == "extra_forbidden":
        return f"{where} is not a key here; {nearest(loc[-1], _fields(kind, item))}"
    if item["type"] == "missing":
        return f"{where} is missing"
    value = item.get("input")
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{where}: {message}"
    shown = repr(value) if not isinstance(value, Mapping) else "a mapping"
    return f"{where} is {shown}; {message[:1].lower()}{message[1:]}"


def _fields(kind: Any, item: Mapping) -> list[str]:
    """Return the keys that are known where one is not."""
    *path, _ = item["loc"]
    if not isinstance(kind, type):
        kind = profiles.TAGGED[path.pop(0)]
    for part in path:
        if part in kind.model_fields:
            kind = _profile_in(kind.model_fields[part].annotation) or kind
    return list(kind.model_fields)


def _profile_in(annotation: Any) -> type | None:
    """Return the profile that a field holds, by itself or in a list or mapping; None without."""
    if isinstance(annotation, type) and issubclass(annotation, Profile):
        return annotation
    found = (_profile_in(inner) for inner in get_args(annotation))
    return next((profile for profile in found if profile is not None), None)
