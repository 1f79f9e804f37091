"""Keys of artifacts, and the digest of the code that computes one.

A key is the SHA-256 (first 16 hex digits) over a step's settings, the digest of its code, the
pinned versions of the packages that it calls, and its parents' keys. Paths, names of profiles or
modules, times, comments, docstrings, type hints, the text of errors and log lines do not count
(`prunegrid.common.definitions`).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from prunegrid.common import source_code
from prunegrid.common.definitions import ON_IMPORT
from prunegrid.common.errors import PrunegridError
from prunegrid.common.file_io import canonical_json
from prunegrid.common.source_code import PACKAGE, facts, module_file, required_file

KEY_LENGTH = 16
# {module: why it cannot change the bytes of an artifact}. The code that it calls is left out too.
LEFT_OUT = {
    "prunegrid.artifacts.artifact_folder": "puts files in place; it writes none of them",
    "prunegrid.common.device_meters": "measures memory (a root where that is the result)",
    "prunegrid.common.errors": "words of errors",
    "prunegrid.common.gc_pause": "when Python's garbage collector runs",
    "prunegrid.common.malloc": "when freed memory goes back to the system",
    "prunegrid.common.timing_guard": "refuses to load while a clock runs",
}
# The constants in which a file names the works that it comes from, and says what its settings and
# columns are; no result depends on them.
OF_READERS = ("CITE", "MEANINGS", "OPERATIONS")
# How far a definition's digest follows its references: two definitions of the same text differ if
# they call different ones within this distance.
_DEPTH = 2

# A definition: its file and its name there.
Definition = tuple[Path, str]


def digest(value: Any) -> str:
    """Return the key of a JSON-able value: 16 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:KEY_LENGTH]


def code_digest(roots: Iterable[str | Path]) -> str:
    """Return the digest of the code that runs when the root modules are called.

    Every definition counts that a root reads, directly or through others; the names of modules and
    the places of definitions do not. A process reads each file once.

    Args:
        roots: modules of this package (`prunegrid.pruning.criteria.wanda`) or paths of Python
            files, of which all definitions count; or one definition (`prunegrid.stages.prune:run`).

    Raises:
        PrunegridError: there is no such module, or a file cannot be read as Python.
    """
    return digest_of_roots(frozenset(roots))


@functools.cache
def digest_of_roots(roots: frozenset[str | Path]) -> str:
    return digest(sorted({digest_of(one, _DEPTH) for one in reached(roots)}))


def reached(roots: Iterable[str | Path]) -> set[Definition]:
    """Return the definitions that count when the root modules (of `code_digest`) are called."""
    todo: list[Definition] = []
    for root in roots:
        if isinstance(root, Path):
            todo += [one for path in _with_siblings(root) for one in _all(path)]
        else:
            module, _, name = root.partition(":")
            todo += _named(required_file(module), name) if name else _all(required_file(module))
    found: set[Definition] = set()
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo.extend(named_by(one))
    return found


def _named(path: Path, name: str) -> list[Definition]:
    if name not in facts(path).definitions:
        raise PrunegridError(f"there is no {name}", where=str(path))
    return [(path, name)]


def _with_siblings(path: Path) -> set[Path]:
    """Return a user's file and the files beside it that it imports, directly or not."""
    found: set[Path] = set()
    todo = [path]
    while todo:
        current = todo.pop()
        if current not in found:
            found.add(current)
            beside = (current.parent / f"{name}.py" for name in facts(current).siblings)
            todo.extend(p for p in beside if p.is_file())
    return found


@functools.cache
def named_by(one: Definition) -> tuple[Definition, ...]:
    """Return the definitions that count where this one does."""
    path, name = one
    known = facts(path)
    found = [d for target in _targets(path, name) if isinstance(target, tuple) for d in target]
    if ON_IMPORT in known.definitions:
        found.append((path, ON_IMPORT))
    return tuple(found)


def _targets(path: Path, name: str) -> Iterator[tuple[Definition, ...] | str]:
    """Yield each reference of a definition: definitions, or the text of an outside name."""
    known = facts(path)
    for position in known.definitions[name][1]:
        reference = known.references[position]
        if reference.startswith(":"):
            yield ((path, reference[1:]),)
        else:
            yield find(reference)


@functools.cache
def find(full: str) -> tuple[Definition, ...] | str:
    """Return the definitions of a full name: one, or all of a module; else a text."""
    parts = full.split(".")
    if parts[0] != PACKAGE:
        return full
    path, module, rest = None, PACKAGE, parts[1:]
    for end in range(1, len(parts) + 1):
        # A package's own definition hides a module of the same name.
        if path and parts[end - 1] in facts(path).definitions:
            break
        name = ".".join(parts[:end])
        file = module_file(name)
        if file is None and not source_code.LIBRARY.joinpath(*parts[:end]).is_dir():
            break
        path, module, rest = file or path, name, parts[end:]
    if path is None:
        return full
    if module in LEFT_OUT:
        return ".".join(["left out", *rest])
    known = facts(path)
    if not rest:
        return tuple(_all(path))
    if rest[0] in known.definitions:
        return ((path, rest[0]),)
    if rest[0] in known.imports:
        return find(".".join([known.imports[rest[0]], *rest[1:]]))
    return tuple(_all(path))


def _all(path: Path) -> list[Definition]:
    return [(path, name) for name in facts(path).definitions if name not in OF_READERS]


@functools.cache
def digest_of(one: Definition, depth: int) -> str:
    """Return the digest of a definition and, to a depth, of those that it names."""
    path, name = one
    own = facts(path).definitions[name][0]
    if depth == 0:
        return own
    named = [
        target if isinstance(target, str) else sorted(digest_of(d, depth - 1) for d in target)
        for target in _targets(path, name)
    ]
    return digest([own, named])


@functools.cache
def read_pins(env_file: Path) -> dict[str, str]:
    """Return {package: version} of the `name==version` pins in a conda environment file."""
    spec = yaml.safe_load(Path(env_file).read_text(encoding="utf-8"))
    pins = {}
    for entry in spec["dependencies"]:
        lines = entry["pip"] if isinstance(entry, Mapping) else [entry]
        for line in lines:
            name, _, version = line.partition("==")
            if version:
                pins[name.strip().lower().replace("_", "-")] = version.strip()
    return pins
