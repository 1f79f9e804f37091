"""Parts of the pages that `docs/generate.py` writes: tables in Markdown, and the page of keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prunegrid.config import profiles

NOTE = (
    "<!-- Written by `python docs/generate.py` from the code. Change the code, not this page. -->"
)
WORDS = {"integer": "whole number", "number": "number", "boolean": "true or false"}
WORDS |= {"string": "text", "object": "mapping"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
# How the schema describes a key that only some plugins take.
OF_PLUGINS = "A setting of "
KEYS = """\
Each key with its type, its default and its meaning. [The configuration](../../config/README.md)
says how files are merged, how a grid unfolds, and what goes together. Editors read
[config/schema.json](../../config/schema.json)."""


def page(title: str, text: str) -> Iterator[str]:
    """Yield the lines of a page's beginning."""
    yield from (f"# {title}", "", NOTE, "", text, "")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a table, and an empty one."""
    head = list(head)
    for cells in (head, ["---" for _ in head], *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


def code(value: Any) -> str:
    """Return a value as the config has it, in code."""
    text = value if value and isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "`" + text.replace("\n", "\\n") + "`"


def config_keys(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the page of keys."""
    definitions, seen = schema["definitions"], set()
    yield from page("Keys of the config", KEYS)
    top = {k: v for k, v in schema["properties"].items() if k not in profiles.SECTIONS}
    yield from ("## Beside the sections", "")
    yield from keys(top)
    yield from parts(definitions, top, seen)
    for section, kind in profiles.SECTIONS.items():
        yield from (f"## {section}", "")
        if isinstance(kind, type):
            yield from described(definitions, definitions[kind.__name__], seen)
            continue
        rules = definitions[section]["allOf"]
        names = dict.fromkeys(name for rule in rules for name in referred(rule["then"]))
        for name in names:
            body = definitions[name]["properties"]["kind"]
            kinds = body.get("enum") or [body["const"]]
            yield from (f"### {section}: {', '.join(kinds)}", "")
            yield from described(definitions, definitions[name], seen)


def described(definitions: Mapping, one: Mapping, seen: set[str]) -> Iterator[str]:
    yield from (one["description"], "")
    yield from keys(one["properties"])
    yield from parts(definitions, one["properties"], seen)


def parts(definitions: Mapping, node: Any, seen: set[str]) -> Iterator[str]:
    """Yield what a part of the schema holds, each with its heading, and once."""
    for name in dict.fromkeys(referred(node)):
        if name not in seen:
            seen.add(name)
            yield from (f"### {name}", "")
            yield from described(definitions, definitions[name], seen)


def referred(node: Any) -> Iterator[str]:
    """Yield the names of what a part of the schema holds, but profiles in grids."""
    if isinstance(node, Mapping):
        name = node.get("$ref", "").rpartition("/")[2]
        if name and " " not in name:
            yield name
    for child in node.values() if isinstance(node, Mapping) else node:
        if isinstance(child, Mapping | list):
            yield from referred(child)


def keys(properties: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of keys; settings of plugins stand on pages of their own."""
    own = {k: v for k, v in properties.items() if not v["description"].startswith(OF_PLUGINS)}
    rows = [
        (f"`{key}`", kind(body), default(body), body["description"]) for key, body in own.items()
    ]
    yield from table(("key", "type", "default", "meaning"), rows)
    if len(own) < len(properties):
        text = "All other keys are settings of what is named: [methods](methods.md),"
        yield from (f"{text} [metrics](metrics.md).", "")


def default(body: Mapping[str, Any]) -> str:
    return code(body["default"]) if "default" in body else ""


def kind(body: Mapping[str, Any]) -> str:
    """Return a type of the schema in words."""
    if "allOf" in body:
        return kind(body["allOf"][0])
    if "$ref" in body:
        name = body["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if " " not in name else "profile"
    if "anyOf" in body:
        several = [kind(one) for one in body["anyOf"] if one != {"type": "null"}]
        return " or ".join(dict.fromkeys(several))
    if "enum" in body or "const" in body:
        return ", ".join(f"`{word}`" for word in body.get("enum", [body.get("const")]))
    if body.get("type") == "array":
        return f"list of {kind(body['items'])}"
    values = [*body.get("patternProperties", {}).values(), body.get("additionalProperties")]
    if isinstance(values[0], Mapping):
        text = kind(values[0])
        return f"name → ({text})" if " or " in text else f"name → {text}"
    if "from" in body.get("properties", {}):
        return "{from, to, step}"
    if "/|" in body.get("pattern", ""):
        return "path"
    bounds = [f"{sign} {body[bound]:g}" for bound, sign in BOUNDS.items() if bound in body]
    return f"{WORDS.get(body.get('type'), 'any value')} {', '.join(bounds)}".rstrip()


def anchor(text: str) -> str:
    """Return a link to a heading of the same page."""
    return f"[{text}](#{re.sub(r'[^a-z0-9-]', '', text.lower().replace(' ', '-'))})"
