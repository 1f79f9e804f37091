"""The lines of `make gpu-check`: verdicts, lines that fail or hang, the exit status."""

from __future__ import annotations

import json

import pytest
import torch

from tests.helpers.gpu_check import check, gpu_tests, report, rows_of, worker

PLANTED = """
from report import NotRun, judged
from worker import Check
def fine(setting):
    yield judged("fine", 1.0, 1, 1)
def fails(setting):
    yield judged("before", 1.0, 1, 1)
    raise RuntimeError("CUDA error: planted")
def absent(setting):
    raise NotRun("planted is not installed")
def dies(setting):
    import os
    os._exit(3)
def hangs(setting):
    import time
    time.sleep(600)
CHECKS = [Check(f.__name__, f) for f in (%s)]
"""


def planted(folder, name, checks):
    path = folder / f"{name}.py"
    path.write_text(PLANTED % checks)
    return path


def test_a_line_that_fails_hides_no_other(tmp_path):
    files = [
        planted(tmp_path, "one", "fails, absent, dies, fine"),
        planted(tmp_path, "two", "fine, dies"),
        planted(tmp_path, "three", "fine,"),
    ]
    rows = check.run_kinds(files, "cpu", True)
    verdicts = [(kind, row.line, row.verdict) for kind, row in rows]
    assert verdicts == [
        ("one", "before", "ok"),
        ("one", "fails", "differs"),
        ("one", "absent", "not run: planted is not installed"),
        ("one", "dies", "differs"),
        ("one", "fine", "not run: its process had ended"),
        ("two", "fine", "ok"),
        ("two", "dies", "differs"),
        ("three", "fine", "ok"),
    ]
    fault = rows[1][1]
    assert "CUDA error: planted" in fault.measured and "Traceback" in fault.error
    assert "status 3" in rows[3][1].measured


def test_a_line_that_does_not_end_is_stopped_and_differs(tmp_path):
    files = [planted(tmp_path, "one", "hangs, fine"), planted(tmp_path, "two", "fine,")]
    rows = check.run_kinds(files[:1], "cpu", True, of_a_kind=2.0)
    assert rows[0][1].differs and "did not end" in rows[0][1].measured
    assert [row.verdict for _, row in check.run_kinds(files[1:], "cpu", True)] == ["ok"]


def test_a_line_after_a_slow_one_is_not_run(tmp_path):
    now = [0.0]

    def slow(setting):
        now[0] += 500
        yield report.judged("slow", 1.0, 1, 1)

    setting = worker.Setting("cpu", True, tmp_path, ends=420.0, clock=lambda: now[0])
    checks = [worker.Check("slow", slow), worker.Check("late", slow)]
    rows = rows_of(checks, setting)
    assert rows["slow"].verdict == "ok" and rows["late"].verdict == "not run: time"
    late = check.run_kinds([planted(tmp_path, "one", "fine,")], "cpu", True, last_start=-1.0)
    assert [(kind, row.verdict) for kind, row in late] == [("one", "not run: time")]


def test_the_exit_status_says_whether_a_line_differs(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deep" / "found.json"
    asked = ["--device", "cpu", "--small", "--json", str(out)]
    monkeypatch.setattr(check, "FILES", [planted(tmp_path, "one", "fine, absent")])
    assert check.main(asked) == 0
    monkeypatch.setattr(check, "FILES", [planted(tmp_path, "one", "fine, fails")])
    assert check.main(asked) == 1
    found = json.loads(out.read_text())
    assert [row["verdict"] for row in found["rows"]] == ["ok", "ok", "differs"]
    assert "1 of 3 lines differ" in capsys.readouterr().out


def test_without_a_gpu_or_new_enough_packages_it_says_so_and_ends_with_2(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check.main([]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "needs an NVIDIA GPU" in sentence and "--device cpu --small" in sentence
    versions = {"torch": "2.11.0+cu130", "transformers": "5.9.1", "safetensors": None}
    versions["numpy"] = "2.0.1"
    monkeypatch.setattr(check, "version", versions.get)
    told = check.missing("cpu")
    assert "transformers 5.17" in told and "5.9.1" in told
    versions["transformers"] = "5.17.0"
    told = check.missing("cpu")
    assert "safetensors 0.6" in told and "not installed" in told
    versions["safetensors"] = "0.6.2"
    assert check.missing("cpu") == ""
    versions["torch"] = "2.10.1"
    told = check.missing("cpu")
    assert "torch 2.11" in told and "2.10.1" in told


@pytest.mark.parametrize(
    ("value", "low", "high", "expected", "verdict"),
    [
        (1.0, 1, None, "at least 1.0", "ok"),
        (0.9, 1, None, "at least 1.0", "differs"),
        (2.1, None, 2, "at most 2.0", "differs"),
        (float("nan"), None, 2, "at most 2.0", "differs"),
        (0.0, 0, 0, "0.0", "ok"),
        (5.0, None, None, "no bound", "ok"),
        (float("nan"), None, None, "no bound", "differs"),
    ],
)
def test_verdicts(value, low, high, expected, verdict):
    row = report.judged("line", value, low, high, form="{:.1f}")
    assert (row.expected, row.verdict) == (expected, verdict)


def test_the_projects_gpu_tests_are_told_by_file(tmp_path, monkeypatch):
    texts = {
        "good": "def test_a():\n    pass\n",
        "bad": "def test_a():\n    pass\ndef test_b():\n    assert 0\n",
        "lacks": "import pytest\npytest.importorskip('no_such_package')\ndef test_a():\n    pass\n",
        "broken": "import no_such_package\n",
    }
    setting = worker.Setting("cuda:0", True, tmp_path)
    rows = {}
    for name, text in texts.items():
        path = tmp_path / f"test_{name}_gpu.py"
        path.write_text(text)
        one = worker.Check(name, lambda setting, path=path: gpu_tests.run(path, setting))
        rows |= rows_of([one], setting)
    assert rows["tests: good"].verdict == "ok"
    assert rows["tests: bad"].differs and rows["tests: bad"].measured == "1 pass"
    assert rows["tests: bad"].expected == "2 pass" and "assert 0" in rows["tests: bad"].error
    assert "no_such_package" in rows["lacks"].verdict
    assert rows["tests: broken"].differs
    monkeypatch.setattr(gpu_tests.importlib.util, "find_spec", lambda name: None)
    (row,) = rows_of([worker.Check("x", lambda s: gpu_tests.run(path, s))], setting).values()
    assert row.verdict == "not run: pytest is not installed"
