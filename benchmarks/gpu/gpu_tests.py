"""The project's GPU tests, by pytest where it is installed: one row a file."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from pathlib import Path

from report import DIFFERS, OK, NotRun, Row
from worker import Check, Setting

ROOT = Path(__file__).resolve().parents[2]
TESTS = tuple(sorted((ROOT / "tests").rglob("test_*_gpu.py")))


def run(path: Path, setting: Setting) -> Iterator[Row]:
    """Yield how many of a file's tests pass.

    Raises:
        NotRun: there is no GPU, no pytest, or every test is skipped.
    """
    if not setting.on_gpu:
        raise NotRun("no GPU")
    if importlib.util.find_spec("pytest") is None:
        raise NotRun("pytest is not installed")
    report = setting.scratch / f"{path.stem}.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junit-xml={report}",
    ]
    ran = subprocess.run(
        [*command, str(path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": _path()},
        capture_output=True,
        text=True,
    )
    yield outcome(_name(path), report, ran.stdout[-4000:] + ran.stderr[-2000:])


def outcome(line: str, report: Path, log: str) -> Row:
    """Return the row of a JUnit report.

    Raises:
        NotRun: every test of it was skipped.
        RuntimeError: there is no report, or no test in it.
    """
    if not report.exists():
        raise RuntimeError(f"pytest wrote no report: {log}")
    cases = list(xml.parse(report).iter("testcase"))
    if not cases:
        raise RuntimeError(f"pytest found no test: {log}")
    broken = [case for case in cases if _has(case, "failure") or _has(case, "error")]
    skipped = [case for case in cases if _has(case, "skipped")]
    if len(skipped) == len(cases):
        raise NotRun(_reason(skipped[0].find("skipped")))
    passed, wanted = len(cases) - len(broken) - len(skipped), len(cases) - len(skipped)
    names = [case.get("name", "") for case in broken]
    values = {"passed": passed, "skipped": len(skipped), "broken": names}
    verdict = DIFFERS if broken else OK
    return Row(line, f"{passed} pass", f"{wanted} pass", verdict, values, log if broken else None)


def _reason(skipped: xml.Element) -> str:
    """Return why a test was skipped; where a whole file was, pytest has it in the text."""
    inside = re.search(r"Skipped: ([^\n]*?)['\")]*$", skipped.text or "")
    return inside[1] if inside else skipped.get("message", "skipped")


def _has(case: xml.Element, what: str) -> bool:
    return case.find(what) is not None


def _name(path: Path) -> str:
    return f"tests: {re.sub('^test_|_gpu$', '', path.stem).replace('_', ' ')}"


def _path() -> str:
    """Return PYTHONPATH with the library first."""
    library = str(ROOT / "workflow" / "lib")
    return os.pathsep.join(filter(None, (library, os.environ.get("PYTHONPATH"))))


CHECKS = [Check(_name(path), functools.partial(run, path)) for path in TESTS]
