"""Facts of a Python file that are read without importing it: its definitions and literals.

Parsing all files takes most of the time in which Snakemake plans, and some of each job's. So the
facts are cached by the file's SHA-256 beside Snakemake's own records.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import functools
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from prunegrid.common import definitions, file_io
from prunegrid.common.errors import PrunegridError

PACKAGE = "prunegrid"
LIBRARY = Path(__file__).resolve().parents[2]
# In the folder of the run; without Snakemake's folder nothing is cached.
CACHE = Path(".snakemake/prunegrid-code.json")
# The number of files cached at most: those of several versions of the library.
MOST = 1000

# {SHA-256 of a file: facts} that this process adds to the cache.
_new: dict[str, list] = {}


class Facts(NamedTuple):
    """Facts of a file.

    Attributes:
        definitions: {name: [digest, positions of its references in `references`]}.
        references: full names that the definitions read (`prunegrid.common.definitions`).
        imports: {local name: full name} of the imports at module level.
        siblings: names that it imports relative to itself, anywhere.
        literals: `repr` of {name: value} of its module-level literal constants.
    """

    definitions: dict[str, list]
    references: list[str]
    imports: dict[str, str]
    siblings: list[str]
    literals: str


@functools.cache
def facts(path: Path) -> Facts:
    """Return the facts of a file; a process reads each file once.

    Raises:
        PrunegridError: it cannot be read as Python.
    """
    try:
        source = Path(path).read_bytes()
        digest = hashlib.sha256(source).hexdigest()
        known = _cached().get(digest)
        if known is None:
            known = _new[digest] = list(_facts(ast.parse(source)))
    except (SyntaxError, ValueError, OSError) as error:
        raise PrunegridError(f"cannot be read as Python ({error})", where=str(path)) from error
    return Facts(*known)


def module_file(name: str) -> Path | None:
    """Return the file of a module of the library (`prunegrid.stages.prune`), None without one."""
    base = LIBRARY.joinpath(*name.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


@functools.cache
def literals(module: str | Path) -> dict[str, Any]:
    """Return the module-level literal constants of a file, or of a module of the library.

    Method and metric modules declare what they need and accept in such constants; reading them so
    keeps heavy imports out of the start-up.

    Raises:
        PrunegridError: there is no such module.
    """
    path = module if isinstance(module, Path) else required_file(module)
    return ast.literal_eval(facts(path).literals)


def required_file(name: str) -> Path:
    """Return the file of a module of the library.

    Raises:
        PrunegridError: there is none.
    """
    path = module_file(name)
    if path is None:
        raise PrunegridError(f"there is no module {name} in the library", where=str(LIBRARY))
    return path


def _facts(tree: ast.Module) -> Facts:
    own = definitions.definitions(tree)
    names = sorted({name for _, references in own.values() for name in references})
    position = {name: index for index, name in enumerate(names)}
    siblings = {
        node.module or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    return Facts(
        {name: [digest, [position[r] for r in read]] for name, (digest, read) in own.items()},
        names,
        definitions.imported(tree.body),
        sorted(siblings),
        repr(_literal_constants(tree)),
    )


def _literal_constants(tree: ast.Module) -> dict[str, Any]:
    constants = {}
    for node in tree.body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)):
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name) and target.id.isupper():
                with contextlib.suppress(ValueError):
                    constants[target.id] = ast.literal_eval(node.value)
    return constants


@functools.cache
def _made_by() -> str:
    """Return what cached facts depend on beside the files: the code here, Python's version."""
    places = [__file__, definitions.__file__]
    own = hashlib.sha256(b"".join(Path(place).read_bytes() for place in places)).hexdigest()
    return f"{own} {sys.version_info[0]}.{sys.version_info[1]}"


@functools.cache
def _cached() -> dict[str, list]:
    """Return the cached facts; {} if there are none, or those of another version."""
    atexit.register(_write_cache, CACHE.absolute())
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        cache = json.loads(CACHE.read_bytes())
        if cache["made_by"] == _made_by():
            size = len(Facts._fields)
            return {digest: known for digest, known in cache["files"].items() if len(known) == size}
    return {}


def _write_cache(path: Path) -> None:
    """Add the facts that this process has read to the cache."""
    if not _new or not path.parent.is_dir():
        return
    files = {**_cached(), **_new} if len(_cached()) + len(_new) <= MOST else _new
    with contextlib.suppress(OSError):
        file_io.write_text(path, json.dumps({"made_by": _made_by(), "files": files}))
