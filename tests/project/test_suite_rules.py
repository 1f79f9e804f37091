"""The rules of tests/README.md, as far as code shows them.

No test depends on a clock or on the CPU, none reaches into privates, and each lies where the module
that it tests lies."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from prunegrid.common.source_code import LIBRARY
from tests.helpers import ROOT

TESTS = ROOT / "tests"
CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time", "time"}
CHANGES = {"setattr", "delattr"}
WAITS = {"wait", "join", "communicate"}
SHORTEST_DEADLINE = 600
EPSILON = 2**-23  # of float32


def has_clock(node: ast.AST) -> bool:
    """Return whether an expression reads a clock, such as time.monotonic()."""
    return any(
        isinstance(part, ast.Attribute)
        and part.attr.removesuffix("_ns") in CLOCKS
        and isinstance(part.value, ast.Name)
        and part.value.id == "time"
        for part in ast.walk(node)
    )


def numbers(node: ast.AST) -> Iterator[float]:
    """Yield the numbers that stand in an expression."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and type(part.value) in (int, float):
            yield part.value


def short_deadline(call: ast.Call) -> bool:
    """Return whether a call waits for a number of seconds that a busy machine may need."""
    waits = isinstance(call.func, ast.Attribute) and call.func.attr in WAITS
    given = [k.value for k in call.keywords if k.arg == "timeout"] + (call.args if waits else [])
    return any(
        isinstance(value, ast.Constant) and type(value.value) in (int, float)
        and 1 <= value.value < SHORTEST_DEADLINE
        for value in given
    )  # fmt: skip


def faults(source: str) -> list[tuple[int, str]]:
    """Return (line, fault) of what makes a test depend on the machine."""
    tree, found = ast.parse(source), []
    uses_torch = any(
        isinstance(node, ast.Import) and any(name.name == "torch" for name in node.names)
        for node in ast.walk(tree)
    )
    for scope in tree.body:
        found += faults_of(scope, uses_torch)
    return found


def faults_of(scope: ast.stmt, uses_torch: bool) -> list[tuple[int, str]]:
    """Return the faults of a function or of another statement of a file."""
    found = []
    timed = {
        target.id
        for node in ast.walk(scope)
        if isinstance(node, ast.Assign) and has_clock(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(scope):
        if isinstance(node, ast.Assert):
            names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            if has_clock(node) or names & timed:
                found.append((node.lineno, "asserts on a clock: count calls, tries or steps"))
            if uses_torch and any(0 < abs(number) < EPSILON for number in numbers(node)):
                found.append((node.lineno, "a bound below ε of float32: derive it from finfo"))
        elif isinstance(node, ast.Call) and short_deadline(node):
            found.append((node.lineno, f"a deadline under {SHORTEST_DEADLINE} s"))
    return found


def test_no_test_depends_on_a_clock_or_is_finer_than_float32():
    found = [
        f"{path.relative_to(TESTS)}:{line}: {fault}"
        for path in sorted(TESTS.rglob("*.py"))
        for line, fault in faults(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def test():\n began = time.monotonic()\n assert time.monotonic() - began < 5", "clock"),
        ("def test():\n began = time.perf_counter_ns()\n assert spent > began", "clock"),
        ("import torch\nassert facts['error'] < 1e-8", "float32"),
        ("import torch\nassert torch.allclose(a, b, rtol=0, atol=1e-9)", "float32"),
        ("job.join(60)", "deadline"),
        ("subprocess.run(command, timeout=120)", "deadline"),
        ("assert going.wait(30)", "deadline"),
        ("assert numpy.allclose(a, b, atol=1e-12)", None),
        ("import torch\nassert error < 100 * torch.finfo(torch.float64).eps", None),
        ("while time.monotonic() < end:\n    pass\nassert there", None),
        ("' '.join(words)\njob.join(FOR_EVER)\nassert seconds > 0", None),
    ],
)
def test_the_rules_find_what_they_are_for(source, found):
    told = [fault for _, fault in faults(source)]
    assert (not told) if found is None else len(told) == 1 and found in told[0]


def privates(source: str) -> list[str]:
    """Return the private names of the project that a file reaches for."""
    tree, ours, found = ast.parse(source), set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prunegrid"):
            ours |= {name.asname or name.name for name in node.names}
            found += [name.name for name in node.names if private(name.name)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            names = {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
            found += [ast.unparse(node)] if names & ours else []
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in CHANGES:
            names = [part.value for part in node.args[1:2] if isinstance(part, ast.Constant)]
            found += [name for name in names if private(str(name))]
    return found


def private(name: str) -> bool:
    """Return whether a name begins with one underscore."""
    return name.startswith("_") and not name.startswith("__")


def test_no_test_reaches_into_privates():
    found = {p.relative_to(TESTS): privates(p.read_text()) for p in TESTS.rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from prunegrid.a import b\nb._c()", 1),
        ("from prunegrid.a import _b", 1),
        ("from prunegrid import a\nmonkeypatch.setattr(a.B, '_c', 1)", 1),
        ("from prunegrid.a import b\nb.__name__\nmodel._no_split_modules", 0),
    ],
)
def test_privates_are_found(source, found):
    assert len(privates(source)) == found


def test_each_test_lies_where_its_module_lies():
    """tests/PACKAGE/test_MODULE.py, or test_MODULE_ASPECT.py."""
    library = LIBRARY / "prunegrid"
    packages = [path.parent.relative_to(library) for path in library.rglob("__init__.py")]
    stray = []
    for path in TESTS.rglob("test_*.py"):
        place = path.parent.relative_to(TESTS)
        if place not in packages:
            if place.parts[0] not in ("workflow", "faults", "cluster", "project", "matrix"):
                stray.append(path)
            continue
        modules = {p.stem for p in (library / place).iterdir()}
        words = path.stem.split("_")[1:]
        if not any("_".join(words[:n]) in modules for n in range(1, len(words) + 1)):
            stray.append(path)
    assert stray == []
