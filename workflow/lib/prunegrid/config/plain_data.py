"""Whether a config is plain data of a bounded size: what YAML can hold beside that is refused.

YAML lets a node stand in itself, or in another one twice over and over (a few lines that unfold to
billions of nodes), and has dates, sets, keys that are no text, and numbers that are none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

LARGEST = 1_000_000  # nodes, each counted as often as it is named
DEEPEST = 60
_SHOWN = 5


def faults(tree: Any, place: Any) -> list[str]:
    """Return what is not plain in a config, one sentence each.

    Args:
        tree: as YAML gives it.
        place: gives file and dotted key of a path of keys.
    """
    if not isinstance(tree, Mapping):
        return [f"the config is a {type(tree).__name__}; expected sections with names"]
    size = _size(tree, {}, 0)
    if size is None:
        return [f"the config is nested in itself, or more than {DEEPEST} deep; take the loop out"]
    if size > LARGEST:
        return [f"the config unfolds to {size} values; expected at most {LARGEST}"]
    found: list[str] = []
    _odd(tree, (), place, found)
    return found


def _size(node: Any, known: dict[int, int], depth: int) -> int | None:
    """Return how many nodes a tree unfolds to; None where it is too deep, or endless."""
    if not isinstance(node, (Mapping, list, tuple, set)):
        return 1
    if depth > DEEPEST:
        return None
    if id(node) not in known:
        total = 1
        for child in node.values() if isinstance(node, Mapping) else node:
            size = _size(child, known, depth + 1)
            if size is None:
                return None
            total += size
        known[id(node)] = total
    return known[id(node)]


def _odd(node: Any, keys: tuple, place: Any, found: list[str]) -> None:
    if len(found) >= _SHOWN:
        return
    if isinstance(node, Mapping):
        for key, value in node.items():
            if not isinstance(key, str):
                found.append(f"{place(*keys)} has the key {key!r}; expected text: put it in quotes")
            else:
                _odd(value, (*keys, key), place, found)
    elif isinstance(node, list):
        for number, value in enumerate(node):
            _odd(value, (*keys, number), place, found)
    elif isinstance(node, str):
        if not node.isprintable() and any(0xD800 <= ord(c) < 0xE000 or c == "\0" for c in node):
            found.append(f"{place(*keys)} is {node!r}, which is no text")
    elif isinstance(node, float) and not math.isfinite(node):
        found.append(f"{place(*keys)} is {node}; expected a finite number")
    elif node is not None and not isinstance(node, (bool, int, float)):
        kind = type(node).__name__
        found.append(f"{place(*keys)} is a {kind} ({node}); expected text: put it in quotes")
