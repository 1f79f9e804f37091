"""What YAML would drop or misread without a word, found in the text of a config file.

YAML 1.1, which Snakemake reads too, takes the last of two equal keys, and reads `no` as false,
`010` as 8, `1:30` as 90 and `1e-3` as text. None of these is what its writer means.
"""

from __future__ import annotations

import re

from yaml import MappingNode, Node, ScalarNode, SequenceNode

_WORDS = re.compile(r"(yes|no|on|off)$", re.IGNORECASE)
_OCTAL = re.compile(r"[-+]?0[0-7_]+$")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$")
_EXPONENT = re.compile(r"([-+]?[0-9][0-9_]*)(\.[0-9_]*)?([eE])([-+]?)([0-9]+)$")
_FALSE = ("no", "off")


def traps(root: Node | None, file: str) -> list[str]:
    """Return a sentence for each trap in a file, with its line.

    Args:
        root: the file's node, as `yaml.compose` gives it; None of an empty file.
        file: its name, for the sentences.
    """
    found: list[tuple[Node, str]] = []
    todo, seen = [root] if root else [], set()
    while todo:
        node = todo.pop()
        if id(node) in seen:  # of an alias
            continue
        seen.add(id(node))
        if isinstance(node, MappingNode):
            found += _twice(node)
            todo += [part for pair in node.value for part in pair]
        elif isinstance(node, SequenceNode):
            todo += node.value
        elif isinstance(node, ScalarNode) and not node.style:
            misread = _misread(node.value)
            if misread:
                found.append((node, f"`{node.value}` is read as {misread}"))
    found.sort(key=lambda trap: (trap[0].start_mark.line, trap[0].start_mark.column))
    return [f"{file}, line {node.start_mark.line + 1}: {told}" for node, told in found]


def _twice(mapping: MappingNode) -> list[tuple[Node, str]]:
    """Return the keys that stand twice in a mapping, each with a sentence."""
    first: dict[tuple[str, str], ScalarNode] = {}
    found = []
    for key, _ in mapping.value:
        if not isinstance(key, ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            continue
        known = first.setdefault((key.tag, key.value), key)
        if known is not key:
            line = known.start_mark.line + 1
            told = f"`{key.value}` stands twice, first in line {line}"
            found.append((key, f"{told}; YAML would drop the first: put both together"))
    return found


def _misread(text: str) -> str:
    """Return as what YAML reads a plain scalar, and what to write; "" where it reads it well."""
    if _WORDS.match(text):
        meant = "false" if text.lower() in _FALSE else "true"
        return f'{meant}; write {meant}, or "{text}" in quotes'
    if _OCTAL.match(text):
        value = int(text.replace("_", ""), 8)
        return f'{value}; write {int(text.replace("_", ""))}, or "{text}" in quotes'
    if _SEXAGESIMAL.match(text):
        return f'a number in base 60; write "{text}" in quotes'
    exponent = _EXPONENT.match(text)
    # A float needs a dot, and a sign in its exponent.
    if exponent and not (exponent[2] and exponent[4]):
        sign = exponent[4] or "+"
        written = f"{exponent[1]}{exponent[2] or '.0'}e{sign}{exponent[5]}"
        return f'text; write {written}, or "{text}" in quotes'
    return ""
