"""Validation of a whole config: all errors at once, each with its file, key and remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from prunegrid.config import plain_data, profiles
from prunegrid.config.config_files import (
    ConfigError,
    Places,
    defined_twice,
    project_files,
    read_files,
)
from prunegrid.config.profile import Profile
from prunegrid.config.reference_checks import check_references
from prunegrid.config.renamed import successor_of_key
from prunegrid.config.validated import Config

# Names become parts of paths.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# A dot would make one study's table another's long table.
STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
LONGEST_NAME = 100


def load(root: Path, entry: Mapping[str, Any], over: list[Path], base: Path) -> Config:
    """Return the validated config of a project.

    Args:
        root: the folder of the Snakefile.
        entry: `config.yaml` with all that is laid over it, as Snakemake holds it.
        over: the files that were laid over it, to name the place of a fault.
        base: the folder that relative paths start from.

    Raises:
        ConfigError: any fault; its text lists them all.
    """
    *shipped, own = project_files(root)
    files = [*project_files(root), *over]
    # Snakemake has read these: what its reader dropped is told here.
    read_files([own, *over])
    faults = plain_data.faults(entry, Places(files))
    if faults:
        raise ConfigError(faults)
    return validate(read_files(shipped, entry), files, base)


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
    faults = plain_data.faults(raw, places) or defined_twice(files)
    if faults:
        raise ConfigError(faults)
    known = set(profiles.SECTIONS) | set(profiles.Globals.model_fields)
    for key in raw:
        if key not in known:
            told = successor_of_key("", key, known)
            faults.append(f"{places(key)} is not a key of the config; {told}")
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
        told = successor_of_key(keys[0] if keys else "", loc[-1], _fields(kind, item))
        return f"{where} is not a key here; {told}"
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
