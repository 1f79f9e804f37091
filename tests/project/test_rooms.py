"""The plan of the library: packages import downward only, without circles, and names say one thing.

`make lint` runs it. The plan is drawn in docs/explanations/library.md.
"""

from __future__ import annotations

import ast
import functools
from collections import Counter, defaultdict

import pytest

from prunegrid.common.source_code import LIBRARY

BASE = ("common", "artifacts")
# {package: the packages that it may import}.
PLAN = {
    "common": (),
    "artifacts": ("common",),
    "models": BASE,
    "data": (*BASE, "models"),
    "pruning": (*BASE, "models", "data"),
    "finetuning": (*BASE, "models", "data", "pruning"),
    "evaluation": (*BASE, "models", "data"),
    "stages": (*BASE, "models", "data", "pruning", "finetuning", "evaluation"),
    "config": BASE,
    "graph": (*BASE, "config"),
    "running": (*BASE, "config", "graph"),
    "tables": (*BASE, "config", "graph", "data", "evaluation", "models"),
}
# Files that may have the name of what they call: a kind of evaluation, a verb.
NAMED_ALIKE = ("config/evaluations", "commands/verbs")
COMMANDS = "commands"  # may import all others
# Names that several packages have for the same thing: a stage and what it calls, a profile and its
# table, one method in two places.
SHARED = {
    *("census", "contrasts", "controls", "data", "mixtures", "rows", "sources"),
    *("page", "parts"),  # for people: of claims, of a study; parts of an artifact, of a page
    *("perplexity", "distances", "tasks", "speed"),
    *("magnitude", "none", "random", "sparsegpt", "wanda"),
}


@functools.cache
def modules():
    """Return {full name: file} of the library."""
    files = (LIBRARY / "prunegrid").rglob("*.py")
    names = {".".join(f.relative_to(LIBRARY).with_suffix("").parts): f for f in files}
    return {name.removesuffix(".__init__"): file for name, file in names.items()}


@functools.cache
def arrows():
    """Return {module: modules of the library that it imports}, wherever the import stands."""
    found = defaultdict(set)
    for name, file in modules().items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{name}: imports are by full names"
                parts = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= {node.module, *parts}
    return {name: (found[name] & modules().keys()) - {name} for name in modules()}


def package(name):
    """Return the package of a module; "" of the root."""
    return (name.split(".") + [""])[1]


def test_the_root_holds_packages_alone():
    files = {path.name for path in (LIBRARY / "prunegrid").glob("*.py")}
    assert files == {"__init__.py", "__main__.py"}
    folders = {path.name for path in (LIBRARY / "prunegrid").iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == {*PLAN, COMMANDS}


def test_every_folder_is_a_package_that_says_what_it_is_for():
    for folder in (LIBRARY / "prunegrid").rglob("*/"):
        if folder.is_dir() and folder.name != "__pycache__":
            assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


@pytest.mark.parametrize("name", sorted(PLAN))
def test_a_package_imports_those_below_it_alone(name):
    allowed = {*PLAN[name], name, ""}
    upward = [
        f"{module} imports {target}"
        for module, targets in arrows().items()
        if package(module) == name
        for target in targets
        if package(target) not in allowed
    ]
    assert not upward


def test_no_modules_import_each_other_in_a_circle():
    done, path = set(), []

    def visit(name):
        if name in path:
            pytest.fail(" imports ".join([*path[path.index(name) :], name]))
        if name in done:
            return
        path.append(name)
        for target in sorted(arrows()[name]):
            visit(target)
        done.add(path.pop())

    for name in modules():
        visit(name)


def test_no_two_modules_share_a_name_for_different_things():
    alike = tuple(f"prunegrid.{folder.replace('/', '.')}." for folder in NAMED_ALIKE)
    last = Counter(n.rpartition(".")[2] for n in modules() if not n.startswith(alike))
    assert {name for name, count in last.items() if count > 1} == SHARED
