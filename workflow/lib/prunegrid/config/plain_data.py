"""The check that a config is plain data of a bounded size, which YAML does not ensure.

In YAML a node may contain itself, or one node twice at each level (a few lines that unfold to
billions of nodes); there are dates, sets, keys that are no text, and numbers that are none.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

LARGEST = 1_000_000  # nodes, each counted as often as it is named
DEEPEST = 60
_SHOWN = 5


def faults(tree: Any, place: Any) -> list[str]:
    """Return a sentence for each value of a tree that is not plain data.

    `place` returns file and dotted key of a path of keys.
    """
    if not isinstance(tree, Mapping):
        return [f"the config is a {type(tree).__name__}; expected sections with names"]
    size = _size(tree, {}, 0)
    if size is None:
        return [f"the config is nested in itself, or more than {DEEPEST} deep; take the loop out"]
    if size > LARGEST:
        return [f"the config unfolds to {size} values; expected at most {LARGEST}"]
    return [f"{place(*keys)} {text}" for keys, text in itertools.islice(_odd(tree, ()), _SHOWN)]


def _size(node: Any, known: dict[int, int], depth: int) -> int | None:
    """Return how many nodes a tree unfolds to; None if it is too deep, or endless."""
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


def _odd(node: Any, keys: tuple) -> Iterator[tuple[tuple, str]]:
    """Yield (keys, fault) of each value that is not plain."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if not isinstance(key, str):
                yield keys, f"has the key {key!r}; expected text: put it in quotes"
            else:
                yield from _odd(value, (*keys, key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _odd(value, (*keys, number))
    elif isinstance(node, str):
        if not node.isprintable() and any(0xD800 <= ord(c) < 0xE000 or c == "\0" for c in node):
            yield keys, f"is {node!r}, which is no text"
    elif isinstance(node, float) and not math.isfinite(node):
        yield keys, f"is {node}; expected a finite number"
    elif node is not None and not isinstance(node, (bool, int, float)):
        yield keys, f"is a {type(node).__name__} ({node}); expected text: put it in quotes"
