"""Digests of the definitions of a Python file, and the other definitions that each one names.

A definition is a function, a class or a constant at module level. Its digest leaves out all that
cannot change a result: positions, comments, docstrings, type hints, imports, the names under which
modules and their parts are imported, the text of errors, and log lines.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
from collections.abc import Iterable
from typing import Any

# The definition that stands for the statements that a module runs when it is imported.
ON_IMPORT = ""
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# Fields that do not change what the code does, or that differ between releases of Python.
_IGNORED = {"kind", "type_comment", "type_ignores", "ctx", "annotation", "returns", "type_params"}
_LOG_LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
_DROPPED = object()


def definitions(tree: ast.Module) -> dict[str, tuple[str, list[str]]]:
    """Return {name: (digest, references)} of a module's definitions.

    Statements that define nothing are together one definition, `ON_IMPORT`. A reference is the full
    dotted name of what the definition reads of an imported module, or `:name` of another definition
    of the same file; the digest holds their positions, not their names.
    """
    bindings = imported(tree.body)
    groups: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for name in _defined(statement):
            groups.setdefault(name, []).append(statement)
    own = set(groups) - {ON_IMPORT}
    digests = {}
    for name, statements in groups.items():
        shape = _Shape(bindings, own)
        remaining = shape.of(statements)
        if remaining:
            digest = hashlib.sha256(repr(remaining).encode()).hexdigest()[:16]
            digests[name] = (digest, shape.references)
    return digests


def _defined(statement: ast.stmt) -> list[str]:
    """Return the names that a statement at module level defines; [ON_IMPORT] for none."""
    if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
        targets = [statement.target]
    else:
        return [ON_IMPORT]
    parts = [part for t in targets for part in (t.elts if isinstance(t, ast.Tuple) else [t])]
    names = [part.id for part in parts if isinstance(part, ast.Name)]
    return names if len(names) == len(parts) else [ON_IMPORT]


def imported(body: Iterable[ast.AST]) -> dict[str, str]:
    """Return {local name: full dotted name} of the imports of a scope, not of scopes within it."""
    names = {}
    for node in _within(body):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            joint = "" if base.endswith(".") or not base else "."
            for alias in node.names:
                names[alias.asname or alias.name] = f"{base}{joint}{alias.name}"
    return names


def _within(body: Iterable[ast.AST]) -> Iterable[ast.AST]:
    """Yield the nodes of a scope, but none from inside of its functions and comprehensions."""
    todo = list(body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, (*_FUNCTIONS, ast.Lambda, *_COMPREHENSIONS)):
            todo.extend(ast.iter_child_nodes(node))


def _stored(body: Iterable[ast.AST]) -> set[str]:
    """Return the names that a scope gives a value of its own."""
    names, free = set(), set()
    for node in _within(body):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.ExceptHandler)):
            names.add(node.name)  # None of a handler without a name, which no one reads
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            free |= set(node.names)
    return names - free


class _Shape:
    """Nested tuples of some statements, without the parts that a key leaves out.

    `bindings` are {local name: full name} of the module's imports, `own` the names of its
    definitions; `references` lists what the statements read of other definitions, in order.
    """

    def __init__(self, bindings: dict[str, str], own: set[str]) -> None:
        self.references: list[str] = []
        # Each scope: {name: full name of an import, None where it is a value of its own}.
        self._scopes: list[dict[str, str | None]] = [{name: f":{name}" for name in own} | bindings]

    def of(self, node: Any) -> Any:
        """Return the shape of a node, a list of nodes, or a plain value."""
        if isinstance(node, list):
            return [shape for item in node if (shape := self.of(item)) is not _DROPPED]
        if not isinstance(node, ast.AST):
            return node
        special = getattr(self, f"of_{type(node).__name__}", None)
        if special is not None:
            return special(node)
        if isinstance(node, _COMPREHENSIONS):
            return self._comprehension(node)
        return self._plain(node)

    def _plain(self, node: ast.AST) -> Any:
        fields = [
            (name, self.of(value))
            for name, value in ast.iter_fields(node)
            if not (value is None or value == [] or name in _IGNORED)
        ]
        return (type(node).__name__, fields)

    def of_Import(self, node: ast.AST) -> Any:
        return _DROPPED

    of_ImportFrom = of_Import

    def of_Constant(self, node: ast.Constant) -> Any:
        return ("Constant", type(node.value).__name__, repr(node.value))

    def of_Expr(self, node: ast.Expr) -> Any:
        """Drop docstrings and log lines."""
        value = node.value
        is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
        is_log = isinstance(value, ast.Call) and self._is_log(value)
        return _DROPPED if is_text or is_log else self._plain(node)

    def _is_log(self, call: ast.Call) -> bool:
        function = call.func
        if not (isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)):
            return False
        owner = function.value.id
        if owner == "warnings":
            return function.attr == "warn"
        return owner in ("log", "logger", "logging") and function.attr in _LOG_LEVELS

    def of_If(self, node: ast.If) -> Any:
        """Drop the imports of type hints."""
        name = node.test.attr if isinstance(node.test, ast.Attribute) else node.test
        name = name.id if isinstance(name, ast.Name) else name
        return _DROPPED if name == "TYPE_CHECKING" and not node.orelse else self._plain(node)

    def of_With(self, node: ast.With) -> Any:
        """Drop a block of nothing but imports."""
        bare = all(isinstance(one, (ast.Import, ast.ImportFrom)) for one in node.body)
        return _DROPPED if bare else self._plain(node)

    def of_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if node.value is None:
            return _DROPPED
        return ("Assign", [("targets", [self.of(node.target)]), ("value", self.of(node.value))])

    def of_ClassDef(self, node: ast.ClassDef) -> Any:
        """Keep which names are annotated where that makes them the fields of a record."""
        kinds = " ".join(map(ast.unparse, [*node.decorator_list, *node.bases]))
        record = any(kind in kinds for kind in ("dataclass", "NamedTuple", "TypedDict"))
        hinted = [one.target for one in node.body if isinstance(one, ast.AnnAssign) and record]
        return (self._plain(node), [one.id for one in hinted if isinstance(one, ast.Name)])

    def of_Assert(self, node: ast.Assert) -> Any:
        return ("Assert", self.of(node.test))

    def of_Call(self, node: ast.Call) -> Any:
        """Drop the text of an error: the arguments of a class named so, or of one of Python's."""
        function = node.func
        name = getattr(function, "attr", None) or getattr(function, "id", "")
        known = getattr(builtins, name, None)
        if name.endswith("Error") or isinstance(known, type) and issubclass(known, BaseException):
            return ("Error", self.of(function))
        return self._plain(node)

    def of_FunctionDef(self, node: Any) -> Any:
        defaults = [self.of(node.decorator_list), self.of(node.args)]
        return (type(node).__name__, node.name, defaults, self._scoped(node.body, node.args))

    of_AsyncFunctionDef = of_FunctionDef

    def of_Lambda(self, node: ast.Lambda) -> Any:
        return ("Lambda", self.of(node.args), self._scoped([node.body], node.args))

    def _scoped(self, body: list, arguments: ast.arguments) -> Any:
        """Return the shape of a function's body, in which some names are its own."""
        names = [one.arg for one in ast.walk(arguments) if isinstance(one, ast.arg)]
        scope: dict[str, str | None] = dict.fromkeys([*names, *_stored(body)])
        self._scopes.append(scope | imported(body))
        try:
            return self.of(body)
        finally:
            self._scopes.pop()

    def _comprehension(self, node: Any) -> Any:
        targets = [one.target for one in node.generators]
        names = {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        # The first iterable is read outside of the comprehension's scope.
        first = self.of(node.generators[0].iter)
        self._scopes.append(dict.fromkeys(names))
        try:
            return (first, self._plain(node))
        finally:
            self._scopes.pop()

    def of_Name(self, node: ast.Name) -> Any:
        full = self._full(node.id)
        return ("Name", node.id) if full is None else self._reference(full)

    def of_Attribute(self, node: ast.Attribute) -> Any:
        """Read `module.part.name` as one reference."""
        names: list[str] = []
        value: Any = node
        while isinstance(value, ast.Attribute):
            names.insert(0, value.attr)
            value = value.value
        full = self._full(value.id) if isinstance(value, ast.Name) else None
        if full is None or full.startswith(":"):
            return self._plain(node)
        return self._reference(".".join([full, *names]))

    def _full(self, name: str) -> str | None:
        """Return what a name refers to outside of its function; None for a name of its own."""
        return next((scope[name] for scope in reversed(self._scopes) if name in scope), None)

    def _reference(self, full: str) -> Any:
        self.references.append(full)
        return ("Reference", len(self.references) - 1)
