"""The JSON schema of config files, by which editors complete and check them: config/schema.json.

It is written from the classes of the profiles, from `meanings.yaml`, and from what plugins declare.
Files are merged key by key, so a file may hold a part of a profile: only entries of lists must be
whole. What goes together with what is checked when a study is run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic.json_schema import models_json_schema

from prunegrid.common import plugins
from prunegrid.common.source_code import literals
from prunegrid.config import conclusions, evaluations, grid, load, profiles
from prunegrid.config.finetune_step import Finetune
from prunegrid.config.iterate import Iterate
from prunegrid.config.profile import Profile

MEANINGS = Path(__file__).with_name("meanings.yaml")
DRAFT = "http://json-schema.org/draft-07/schema#"
# {(class, its key): the kinds of plugins that it names, and what else it may be}.
NAMED = {
    ("Prune", "method"): (("pruning method", "criterion of structured pruning"), ["dense"]),
    ("Prune", "refine"): (("refine",), ["none"]),
    ("Prune", "update"): (("update",), []),
    ("Prune", "allocation"): (("allocation",), []),
    ("Finetune", "strategy"): (("strategy",), []),
    ("Metric", "module"): (("metric",), []),
    ("Baseline", "method"): (("baseline",), []),
}
# Keys that hold the settings of the plugin that another key names.
SETTINGS = {f"{part}_settings": part for part in plugins.PARTS}
# A path of a user's file, or a metric of the hub.
PATH = {"type": "string", "pattern": r"/|\.py$|^hf:"}
NUMBER = {"type": "number"}
RANGE = {
    "type": "object",
    "description": "The numbers from the first to the last, in steps (1).",
    "properties": {"from": NUMBER, "to": NUMBER, "step": NUMBER},
    "required": ["from", "to"],
    "additionalProperties": False,
}


def schema() -> dict[str, Any]:
    """Return the schema (draft 7) of a file of the config."""
    definitions = _definitions()
    top = definitions.pop("Globals")["properties"]
    for section in profiles.SECTIONS:
        names = load.STUDY_NAME if section == "studies" else load.NAME
        top[section] = {
            "type": ["object", "null"],
            "description": f"{definitions[_holds(section)]['description']}",
            "propertyNames": {"pattern": f"^{names.pattern}$", "maxLength": load.LONGEST_NAME},
            "additionalProperties": _ref(_holds(section)),
        }
    return {
        "$schema": DRAFT,
        "title": "A file of prunegrid's config",
        "type": "object",
        "properties": top,
        "additionalProperties": False,
        "definitions": definitions,
    }


def settings_of(kinds: Iterable[str]) -> dict[str, dict[str, tuple[Any, str]]]:
    """Return {plugin of the library: {its setting: (default, meaning)}} of some kinds."""
    found: dict[str, dict[str, tuple[Any, str]]] = {}
    for kind in kinds:
        for name, path in plugins.files(kind).items():
            facts, own = literals(path), found.setdefault(name, {})
            for key, default in facts.get("SETTINGS", {}).items():
                own[key] = (default, facts.get("MEANINGS", {}).get(key, ""))
    return found


def _holds(section: str) -> str:
    """Return the name of the definition of a section's profiles."""
    kind = profiles.SECTIONS[section]
    return kind.__name__ if isinstance(kind, type) else section


def _definitions() -> dict[str, Any]:
    """Return {class: its schema}, and a choice for each section of several kinds."""
    single = [kind for kind in profiles.SECTIONS.values() if isinstance(kind, type)]
    classes = [profiles.Globals, *single, *profiles.TAGGED.values(), Iterate]
    _, whole = models_json_schema(
        [(one, "validation") for one in dict.fromkeys(classes)],
        ref_template="#/definitions/{model}",
    )
    definitions = whole["$defs"]
    listed = {ref.rpartition("/")[2] for ref in _refs_of_items(definitions)}
    meanings = yaml.safe_load(MEANINGS.read_text(encoding="utf-8"))
    by_name = {one.__name__: one for one in _subclasses(Profile)}
    for name, one in definitions.items():
        told = {}
        for base in reversed(by_name[name].__mro__):
            told |= meanings.get(base.__name__, {})
        _clean(one, told, whole=name in listed)
    for (name, key), (kinds, more) in NAMED.items():
        _name_plugins(definitions[name], key, kinds, more)
    definitions |= _of_grids(definitions, meanings["Grid"])
    definitions["Study"]["properties"]["kind"]["enum"] = ["evaluations"]
    kinds = evaluations.kinds()
    definitions["evaluations"] = _choice("An evaluation, by its kind.", kinds, definitions)
    text = "A published conclusion, by its kind."
    definitions["claims"] = _choice(text, conclusions.KINDS, definitions)
    text = "A study: a grid of cells, and what is measured on each."
    both = {"evaluations": profiles.Study, "census": profiles.Census}
    definitions["studies"] = _choice(text, both, definitions)
    return dict(sorted(definitions.items()))


def _subclasses(kind: type) -> Iterator[type]:
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)


def _refs_of_items(node: Any) -> Iterator[str]:
    """Yield the references of list entries in a schema."""
    if isinstance(node, Mapping):
        if isinstance(node.get("items"), Mapping) and "$ref" in node["items"]:
            yield node["items"]["$ref"]
        for child in node.values():
            yield from _refs_of_items(child)
    elif isinstance(node, list):
        for child in node:
            yield from _refs_of_items(child)


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/definitions/{name}"}


def _clean(one: dict[str, Any], told: Mapping[str, str], whole: bool) -> None:
    """Give a class's schema the meanings of its keys; take out what only pydantic needs."""
    text = one.get("description", "").partition("\n\n")[0]
    one["description"] = " ".join(text.split())
    one.pop("title", None)
    required = one.get("required", []) if whole else one.pop("required", [])
    for key, body in one.get("properties", {}).items():
        body.pop("title", None)
        default = body.pop("default", None)
        reference = body.pop("$ref", None)
        if reference:  # beside which nothing counts in draft 7
            body["allOf"] = [{"$ref": reference}]
        elif default is not None:
            body["default"] = default
        body["description"] = told[key] + (" Required." if key in required else "")


def _name_plugins(one: dict[str, Any], key: str, kinds: tuple[str, ...], more: list[str]) -> None:
    """Put the known plugins and their settings into a class's schema."""
    settings = settings_of(kinds)
    known = sorted({*settings, *more})
    body, fields = one["properties"][key], list(one["properties"])
    optional = [{"type": "null"}] if "anyOf" in body else []
    body.pop("type", None)
    body["anyOf"] = [{"enum": known}, PATH, *optional]
    if key in SETTINGS.values():
        holder = next(one for one, named in SETTINGS.items() if named == key)
        every = {k: v for own in settings.values() for k, v in own.items()}
        one["properties"][holder]["properties"] = {k: _setting(*v) for k, v in every.items()}
        one.setdefault("allOf", []).extend(
            {
                "if": {"properties": {key: {"const": name}}, "required": [key]},
                "then": {"properties": {holder: _keys_among(own)}},
            }
            for name, own in settings.items()
        )
        return
    every = {k: None for own in settings.values() for k in own}
    for setting in every:
        users = [name for name, own in settings.items() if setting in own]
        one["properties"].setdefault(setting, {"description": f"A setting of {', '.join(users)}."})
    rules = [
        {
            "if": {"properties": {key: {"enum": known}}},
            "then": {"propertyNames": {"enum": [*dict.fromkeys([*fields, *every])]}},
        }
    ]
    for name, own in settings.items():
        allowed = [field for field in fields if field not in _unused(key, name)]
        taken = {k: _setting(*v) for k, v in own.items()}
        then = {"properties": taken, "propertyNames": {"enum": [*dict.fromkeys([*allowed, *own])]}}
        rules.append(
            {"if": {"properties": {key: {"const": name}}, "required": [key]}, "then": then}
        )
    one["additionalProperties"] = True
    one.setdefault("allOf", []).extend(rules)


def _keys_among(names: Iterable[str]) -> dict[str, Any]:
    """Return the schema of a mapping with some of these keys; an enum may not be empty."""
    listed = list(names)
    return {"propertyNames": {"enum": listed}} if listed else {"maxProperties": 0}


def _unused(key: str, name: str) -> set[str]:
    """Return the keys that a plugin's profile may not have."""
    return Finetune.model_construct(strategy=name).unused() if key == "strategy" else set()


def _setting(default: Any, meaning: str) -> dict[str, Any]:
    """Return the schema of a plugin's setting, from its default."""
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    kind = kinds.get(type(default))
    one: dict[str, Any] = {"description": meaning} if meaning else {}
    return one | ({"type": kind, "default": default} if kind else {})


def _choice(text: str, kinds: Mapping[str, type], definitions: Mapping) -> dict[str, Any]:
    """Return the schema of a profile whose `kind` says which class it is.

    A file that changes a profile of another may leave `kind` out. Of a study it has a default.
    """
    names = list(dict.fromkeys(one.__name__ for one in kinds.values()))
    rules = [
        {
            "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
            "then": _ref(one.__name__),
        }
        for kind, one in kinds.items()
    ]
    several = [_ref(name) for name in names]
    rules.append({"if": {"not": {"required": ["kind"]}}, "then": {"anyOf": several}})
    keys = {key: {} for name in names for key in definitions[name]["properties"]}
    keys["kind"] = {"enum": list(kinds)}
    return {"type": "object", "description": text, "properties": keys, "allOf": rules}


def _of_grids(definitions: dict[str, Any], meanings: Mapping[str, str]) -> dict[str, Any]:
    """Return the schemas of grids, and of profiles in them; put them into studies."""
    steps = {"prune": "Prune", "finetune": "Finetune"}
    inline = {f"{name} in a grid": _varied(definitions[name]) for name in steps.values()}
    text, name = {"type": "string"}, _several({"type": "string"})
    axes = dict.fromkeys(grid.AXES, name)
    for step, of in steps.items():
        axes[step] = _several({"anyOf": [text, _ref(f"{of} in a grid")]})
    one = {"type": "object", "properties": {s: axes[s] for s in steps}, "maxProperties": 1}
    one["additionalProperties"] = False
    chain = {"type": "array", "items": one}
    axes |= {"steps": {"type": "array", "items": chain}, "iterate": _ref("Iterate")}
    axes["seed"] = _several({"type": "integer", "minimum": 0}, RANGE)
    axes = {key: {"allOf": [body], "description": meanings[key]} for key, body in axes.items()}
    described = "Combinations of models, data sets, steps and seeds; a cell each."
    whole = {"type": "object", "description": described, "properties": axes}
    whole["additionalProperties"] = False
    again = definitions["Iterate"]["properties"]
    again["prune"] = _told(again["prune"], _several(_ref("Prune in a grid")))
    again["sparsities"]["anyOf"].append(RANGE)
    out = {"type": "object", "additionalProperties": False}
    out["properties"] = {key: {} for key in grid.EXCLUDABLE}
    for study in ("Study", "Census"):
        own = definitions[study]["properties"]
        own["grid"] = _told(own["grid"], _several(_ref("Grid")))
        for key, item in (("include", _ref("Grid")), ("exclude", out)):
            own[key] = _told(own[key], {"type": "array", "items": item})
    return inline | {"Grid": whole}


def _told(old: Mapping[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    return new | {"description": old["description"]}


def _several(one: dict[str, Any], *more: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [one, {"type": "array", "items": one}, *more]}


def _varied(one: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a profile whose values may be lists of values."""
    one = copy.deepcopy(one)
    one["description"] += " Listed values are varied."
    for holder in (one, *(rule["then"] for rule in one["allOf"])):
        for key, body in holder.get("properties", {}).items():
            if "propertyNames" not in body:
                told = {k: body.pop(k) for k in ("description", "default") if k in body}
                holder["properties"][key] = told | _several(body, RANGE)
    return one
