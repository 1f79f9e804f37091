"""What a key reads of a Python file: its shape, imports, literals and functions.

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

from prunegrid import artifacts
from prunegrid.errors import PrunegridError

# In the folder of the run; without Snakemake's folder nothing is kept.
CACHE = Path(".snakemake/prunegrid-code.json")
# So many files are kept: those of several versions of the library.
MOST = 1000

# Fields that differ between Python releases or carry no meaning for what the code does.
_IGNORED_FIELDS = {"kind", "type_comment", "type_ignores", "ctx"}
# {SHA-256 of a file: facts} that this process has added.
_new: dict[str, list] = {}


class Facts(NamedTuple):
    """Facts of a file.

    Attributes:
        shape: SHA-256 of its syntax tree, free of comments, docstrings and formatting.
        imports: full names that it imports anywhere, of modules or of what is in them.
        siblings: names that it imports relative to itself.
        literals: `repr` of {name: value} of its module-level literal constants.
        functions: names of its module-level functions.
    """

    shape: str
    imports: list[str]
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


def _facts(tree: ast.Module) -> Facts:
    imports: set[str] = set()
    siblings: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports.add(node.module)
            imports |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):  # a user's file beside the file of a metric
            siblings |= {node.module or alias.name for alias in node.names}
    return Facts(
        hashlib.sha256(repr(_shape(tree)).encode()).hexdigest(),
        sorted(imports),
        sorted(siblings),
        repr(_literals(tree)),
        [node.name for node in tree.body if isinstance(node, ast.FunctionDef)],
    )


def _shape(node: Any) -> Any:
    """Return nested tuples of an AST, free of docstrings, positions and empty fields."""
    if isinstance(node, list):
        return [_shape(item) for item in node]
    if not isinstance(node, ast.AST):
        return node
    fields = []
    for name, value in ast.iter_fields(node):
        if value is None and not isinstance(node, ast.Constant) or name in _IGNORED_FIELDS:
            continue
        if name == "body" and _has_docstring(node):
            value = value[1:]
        if value == []:
            continue
        fields.append((name, _shape(value)))
    return (type(node).__name__, fields)


def _has_docstring(node: ast.AST) -> bool:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None


def _literals(tree: ast.Module) -> dict[str, Any]:
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
                try:
                    found[target.id] = ast.literal_eval(node.value)
                except ValueError:
                    continue
    return found


def _made_by() -> str:
    """Return what the kept facts depend on beside the files: this module and Python's version."""
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
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
        artifacts.write_text(path, json.dumps({"made_by": _made_by(), "files": files}))
