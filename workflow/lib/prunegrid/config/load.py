"""Validation of a whole config: all errors at once, each with its file, key and remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
from prunegrid.config.profile import Profile, message
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
            hint = successor_of_key("", key, known)
            faults.append(f"{places(key)} is not a key of the config; {hint}")
    top = {key: raw[key] for key in profiles.Globals.model_fields if key in raw}
    settings = _parsed(profiles.Globals, top, (), places, faults) or profiles.Globals()
    sections: dict[str, dict[str, Any]] = {}
    broken = set()
    for section, kind in profiles.SECTIONS.items():
        bodies = {} if raw.get(section) is None else raw[section]
        if not isinstance(bodies, Mapping):
            faults.append(f"{places(section)} must be a mapping of names to profiles")
            bodies = {}
        sections[section] = dict(_profiles(section, kind, bodies, places, faults))
        broken |= {(section, name) for name in bodies.keys() - sections[section].keys()}
    config = Config(
        **settings.model_dump(), sections=sections, base=Path(base), broken=frozenset(broken)
    )
    faults += check_references(config, places)
    if faults:
        raise ConfigError(faults)
    return config


def _profiles(
    section: str, kind: Any, bodies: Mapping, places: Places, faults: list[str]
) -> Iterator[tuple[str, Any]]:
    """Yield (name, profile) of a section; record the faults of those that are not valid."""
    for name, body in bodies.items():
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
            yield name, profile


def _parsed(kind: Any, body: Any, keys: tuple, places: Places, faults: list[str]) -> Any:
    try:
        return TypeAdapter(kind).validate_python(body)
    except ValidationError as error:
        faults += [_sentence(kind, item, keys, places) for item in error.errors()]
    return None


def _sentence(kind: Any, item: Mapping, keys: tuple, places: Places) -> str:
    """Return one fault in words; `item` is one of pydantic's error dicts."""
    loc = item["loc"]
    if not isinstance(kind, type) and loc and loc[0] in profiles.TAGGED:
        loc = loc[1:]  # pydantic begins with the tag of the class
    where = places(*keys, *loc)
    if item["type"] == "extra_forbidden":
        hint = successor_of_key(keys[0] if keys else "", loc[-1], _fields(kind, item))
        return f"{where} is not a key here; {hint}"
    if item["type"] == "missing":
        return f"{where} is missing"
    text = message(item)
    if item["type"] == "value_error":
        return f"{where}: {text}"
    value = item.get("input")
    shown = repr(value) if not isinstance(value, Mapping) else "a mapping"
    return f"{where} is {shown}; {text[:1].lower()}{text[1:]}"


def _fields(kind: Any, item: Mapping) -> list[str]:
    """Return the known keys of the place where pydantic met an unknown one."""
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
    inner = (_profile_in(part) for part in get_args(annotation))
    return next((profile for profile in inner if profile is not None), None)
