"""What an artifact's key is made of: settings, the code that runs, the pins of its packages.

A key is the SHA-256 (first 16 hex digits) over a step's own slice of the config, the digest of the
code that it runs, the pinned versions of the packages that it calls, and its parents' keys. Nothing
else enters it: not paths, names of profiles, times, comments, docstrings or formatting.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from prunegrid.artifacts import canonical_json
from prunegrid.code_facts import facts
from prunegrid.errors import PrunegridError

PACKAGE = "prunegrid"
LIBRARY = Path(__file__).resolve().parent.parent
KEY_LENGTH = 16


def digest(value: Any) -> str:
    """Return the key of a JSON-able value: 16 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:KEY_LENGTH]


def code_digest(roots: Iterable[str | Path]) -> str:
    """Return the digest of the code that runs when the root modules are called.

    A process reads each file once.

    Args:
        roots: module names of this package (`prunegrid.stages.prune`) or paths of Python files.
            Every module of the package that a root imports, directly or not, counts; comments,
            docstrings and formatting do not.
    """
    return _code_digest(frozenset(roots))


@functools.cache
def _code_digest(roots: frozenset[str | Path]) -> str:
    files: set[Path] = set()
    for root in roots:
        files |= _closure(root if isinstance(root, Path) else _module_file(root))
    return digest(sorted([_name(path), facts(path).shape] for path in files))


def _name(path: Path) -> str:
    try:
        return path.relative_to(LIBRARY).as_posix()
    except ValueError:
        return path.name


def _module_file(name: str) -> Path:
    base = LIBRARY.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    raise PrunegridError(f"there is no module {name} in the library", where=str(LIBRARY))


@functools.cache
def _closure(path: Path) -> frozenset[Path]:
    found: set[Path] = set()
    todo = [path]
    while todo:
        current = todo.pop()
        if current not in found:
            found.add(current)
            todo.extend(_imports(current))
    return frozenset(found)


@functools.cache
def _imports(path: Path) -> tuple[Path, ...]:
    found = facts(path)
    files = {p for name in found.siblings if (p := path.parent / f"{name}.py").is_file()}
    for name in found.imports:
        parts = name.split(".")
        if parts[0] == PACKAGE:
            for end in range(1, len(parts) + 1):
                base = LIBRARY.joinpath(*parts[:end])
                files |= {p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()}
    return tuple(sorted(files))


def literals(module: str | Path) -> dict[str, Any]:
    """Return the module-level literal constants of a module without importing it.

    Method and metric modules declare what they need and accept in such constants; reading them so
    keeps heavy imports out of the start-up.
    """
    return _literals(module if isinstance(module, Path) else _module_file(module))


@functools.cache
def _literals(path: Path) -> dict[str, Any]:
    return ast.literal_eval(facts(path).literals)


def functions(path: Path) -> list[str]:
    """Return the names of a file's functions at module level, without importing it."""
    return facts(path).functions


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
