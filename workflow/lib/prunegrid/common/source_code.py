"""Facts of a Python file that are read without importing it: its definitions, literals, functions.

Parsing all files takes most of the time in which Snakemake plans, and some of each job's. So the
facts are kept by the file's SHA-256 beside Snakemake's own records; an edited file has none there.
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
# In the folder of the run; without Snakemake's folder nothing is kept.
CACHE = Path(".snakemake/prunegrid-code.json")
# So many files are kept: those of several versions of the library.
MOST = 1000

# {SHA-256 of a file: facts} that this process has added.
_new: dict[str, list] = {}


class Facts(NamedTuple):
    """Facts of a file.

    Attributes:
        definitions: {name: [digest, positions of its references in `references`]}.
        references: full names that the definitions read (`prunegrid.common.definitions`).
        imports: {local name: full name} of the imports at module level.
        siblings: names that it imports relative to itself, anywhere.
        literals: `repr` of {name: value} of its module-level literal constants.
        functions: names of its module-level functions.
    """

    definitions: dict[str, list]
    references: list[str]
    imports: dict[str, str]
    siblings: list[str]
    literals: str
    functions: list[str]


@functools.cache
def facts(path: Path) -> Facts:
    """Return the facts of a file; a process reads each file once.

    Raises:
        PrunegridError: it cannot be read as Python.
    """
    try:
        source = Path(path).read_bytes()
        digest = hashlib.sha256(source).hexdigest()
        known = _kept().get(digest)
        if known is None:
            known = _new[digest] = list(_facts(ast.parse(source)))
    except (SyntaxError, ValueError, OSError) as error:
        raise PrunegridError(f"cannot be read as Python ({error})", where=str(path)) from error
    return Facts(*known)


def module_file(name: str) -> Path | None:
    """Return the file of a module of the library (`prunegrid.stages.prune`), None without one."""
    base = LIBRARY.joinpath(*name.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def literals(module: str | Path) -> dict[str, Any]:
    """Return the module-level literal constants of a module without importing it.

    Method and metric modules declare what they need and accept in such constants; reading them so
    keeps heavy imports out of the start-up.

    Args:
        module: the full name of one of the library's, or a file.

    Raises:
        PrunegridError: there is no such module.
    """
    return _literals(module if isinstance(module, Path) else required_file(module))


@functools.cache
def _literals(path: Path) -> dict[str, Any]:
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


def functions(path: Path) -> list[str]:
    """Return the names of a file's functions at module level, without importing it."""
    return facts(path).functions


def _facts(tree: ast.Module) -> Facts:
    found = definitions.definitions(tree)
    names = sorted({name for _, references in found.values() for name in references})
    position = {name: index for index, name in enumerate(names)}
    return Facts(
        {name: [digest, [position[r] for r in read]] for name, (digest, read) in found.items()},
        names,
        definitions.imported(tree.body),
        sorted(
            {
                node.module or alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.level
                for alias in node.names
            }
        ),
        repr(_literal_constants(tree)),
        [node.name for node in tree.body if isinstance(node, ast.FunctionDef)],
    )


def _literal_constants(tree: ast.Module) -> dict[str, Any]:
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name) and target.id.isupper():
                with contextlib.suppress(ValueError):
                    found[target.id] = ast.literal_eval(node.value)
    return found


@functools.cache
def _made_by() -> str:
    """Return what the kept facts depend on beside the files: the code here, Python's version."""
    places = [__file__, definitions.__file__]
    own = hashlib.sha256(b"".join(Path(place).read_bytes() for place in places)).hexdigest()
    return f"{own} {sys.version_info[0]}.{sys.version_info[1]}"


@functools.cache
def _kept() -> dict[str, list]:
    """Return the facts that are kept; {} where there are none, or those of another version."""
    atexit.register(_keep, CACHE.absolute())
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        kept = json.loads(CACHE.read_bytes())
        if kept["made_by"] == _made_by():
            return {
                digest: known
                for digest, known in kept["files"].items()
                if len(known) == len(Facts._fields)
            }
    return {}


def _keep(path: Path) -> None:
    """Write the facts that this process has added, beside those that were kept."""
    if not _new or not path.parent.is_dir():
        return
    files = {**_kept(), **_new} if len(_kept()) + len(_new) <= MOST else _new
    with contextlib.suppress(OSError):
        file_io.write_text(path, json.dumps({"made_by": _made_by(), "files": files}))
