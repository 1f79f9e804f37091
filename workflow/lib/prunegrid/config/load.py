"""Validation of a whole config: all errors at once, each with its file, key and remedy."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from prunegrid.common.errors import nearest
from prunegrid.config import default_calibration, own_plugins, plain_data, plugin_settings, profiles
from prunegrid.config.config_files import (
    ConfigError,
    Places,
    defined_twice,
    project_files,
    read_files,
)
from prunegrid.config.evaluations import kinds
from prunegrid.config.profile import WITH_CONFLICTS, Conflicts, Profile, message
from prunegrid.config.reference_checks import Partial, check_references, names
from prunegrid.config.renamed import successor_of_key
from prunegrid.config.validated import Config

# Names become parts of paths.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# A dot would make one study's table another's long table.
STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
LONGEST_SHOWN = 120  # characters of a wrong value
LONGEST_NAME = 100


def load(root: Path, entry: Mapping[str, Any], over: list[Path], base: Path) -> Config:
    """Return the validated config of a project.

    Args:
        root: the folder of the Snakefile.
        entry: what is laid over `config.yaml`, as Snakemake holds it.
        over: the files that this was read from, to name the place of a fault.
        base: the folder that relative paths start from.

    Raises:
        PrunegridError: a file cannot be read.
        ConfigError: any fault; its text lists them all.
    """
    files = [*project_files(root), *over]
    # Snakemake has read these: what its reader dropped is told here.
    read_files(over)
    faults = plain_data.faults(entry, Places(files))
    if faults:
        raise ConfigError(faults)
    return validate(read_files(project_files(root), entry), files, base)


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
    raw = _own_plugins_named(raw, places, Path(base))
    known = set(profiles.SECTIONS) | set(profiles.Globals.model_fields)
    for key in raw:
        if key not in known:
            hint = successor_of_key("", key, known)
            faults.append(f"{places(key)} is not a key of the config; {hint}")
    top = {key: raw[key] for key in profiles.Globals.model_fields if key in raw}
    settings = _parsed(profiles.Globals, top, (), places, faults) or profiles.Globals()
    sections: dict[str, dict[str, Any]] = {}
    partial: dict[tuple[str, str], Partial] = {}
    broken = set()
    for section, kind in profiles.SECTIONS.items():
        bodies = {} if raw.get(section) is None else raw[section]
        if not isinstance(bodies, Mapping):
            faults.append(f"{places(section)} must be a mapping of names to profiles")
            bodies = {}
        sections[section] = dict(_profiles(section, kind, bodies, places, faults))
        lost = [name for name in bodies if name not in sections[section]]
        broken |= {(section, name) for name in lost}
        for name in lost:
            faults += [
                f"{places(section, name, *fault.keys)} {fault.text}"
                for fault in plugin_settings.faults(section, bodies[name], Path(base))
            ]
            if (rest := _rest(kind, bodies[name])) is not None:
                partial[section, name] = rest
                sections[section][name] = rest.profile
    default_calibration.add(sections, Path(base))
    config = Config(
        **settings.model_dump(), sections=sections, base=Path(base), broken=frozenset(broken)
    )
    faults += check_references(config, places, partial)
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return config


def _own_plugins_named(raw: Mapping, places: Places, base: Path) -> dict[str, Any]:
    """Return the config with a user's plugins by the names of their files."""
    named, faults = own_plugins.named(raw, base)
    if faults:
        raise ConfigError([f"{places(*fault.keys)} {fault.text}" for fault in faults])
    return named


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


# To make one takes as long as to check ten profiles by it.
_adapter = functools.cache(TypeAdapter)


def _parsed(kind: Any, body: Any, keys: tuple, places: Places, faults: list[str]) -> Any:
    """Return a valid profile; record all faults of another, and return None."""
    try:
        return _adapter(kind).validate_python(body)
    except ValidationError as error:
        items = error.errors()
    faults += [line for item in items for line in _sentences(kind, item, keys, places)]
    faults += [f"{places(*keys)}: {sentence}" for sentence in _hidden(kind, body, items)]
    return None


def _wrong_keys(kind: Any, items: Iterable[Mapping]) -> list[str]:
    """Return the keys of a profile that pydantic's errors are of; "" of the whole profile."""
    places = (_place(kind, item) for item in items)
    return list(dict.fromkeys(str(loc[0]) if loc else "" for loc in places))


def _hidden(kind: Any, body: Any, items: Sequence[Mapping]) -> Iterator[str]:
    """Yield the conflicts between those keys of a profile that are right, which wrong ones hide."""
    wrong = _wrong_keys(kind, items)
    own = kind if isinstance(kind, type) else profiles.TAGGED.get(next(iter(items[0]["loc"]), ""))
    if "" in wrong or own is None or not isinstance(body, Mapping):
        return
    made = own.model_construct(**{key: body[key] for key in body if key not in wrong})
    # A key that was left out may be asked for; what is nested is not checked yet.
    with contextlib.suppress(AttributeError, TypeError, KeyError):
        for sentence in made.conflicts():
            if not any(names(sentence, key) for key in wrong):
                yield sentence


def _rest(kind: Any, body: Any) -> Partial | None:
    """Return what is valid of a profile that is wrong; None where too little is."""
    left_out: list[str] = []
    while isinstance(body, Mapping):
        try:
            part = _adapter(kind).validate_python(body, context=WITH_CONFLICTS)
            return Partial(part, tuple(left_out))
        except ValidationError as error:
            wrong = [key for key in _wrong_keys(kind, error.errors()) if key in body]
        if not wrong:
            return None
        left_out += wrong
        body = {key: value for key, value in body.items() if key not in wrong}
    return None


def _place(kind: Any, item: Mapping) -> tuple:
    """Return where in a profile one of pydantic's errors is; it begins with the tag of a class."""
    loc = item["loc"]
    return loc[1:] if not isinstance(kind, type) and loc and loc[0] in profiles.TAGGED else loc


def _sentences(kind: Any, item: Mapping, keys: tuple, places: Places) -> list[str]:
    """Return the sentences of one of pydantic's errors: of conflicts, one each."""
    conflicts = item.get("ctx", {}).get("error")
    if isinstance(conflicts, Conflicts):
        where = places(*keys, *_place(kind, item))
        return [f"{where}: {sentence}" for sentence in conflicts.sentences]
    return [_sentence(kind, item, keys, places)]


def _sentence(kind: Any, item: Mapping, keys: tuple, places: Places) -> str:
    """Return one fault in words; `item` is one of pydantic's error dicts."""
    loc = _place(kind, item)
    where = places(*keys, *loc)
    if item["type"] == "extra_forbidden":
        hint = successor_of_key(keys[0] if keys else "", loc[-1], _fields(kind, item))
        return f"{where} is not a key here; {hint}"
    if item["type"] == "missing":
        return f"{where} is missing"
    if item["type"].startswith("union_tag"):
        known = str(item["ctx"].get("expected_tags", "")).replace("'", "").split(", ")
        known = known if any(known) else sorted(kinds())
        tag = item["ctx"].get("tag")
        return f"{where}.kind is {'missing' if tag is None else repr(tag)}; {nearest(tag, known)}"
    text = message(item)
    if item["type"] == "value_error":
        return f"{where}: {text}"
    return f"{where} is {_shown(item.get('input'))}; {text[:1].lower()}{text[1:]}"


def _shown(value: Any) -> str:
    """Return what was given in the config, in a few words."""
    if isinstance(value, Mapping):
        return "a mapping"
    text = repr(value)
    if len(text) <= LONGEST_SHOWN:
        return text
    is_list = isinstance(value, list)
    return f"a list of {len(value)}" if is_list else f"{text[:LONGEST_SHOWN]}…"


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
