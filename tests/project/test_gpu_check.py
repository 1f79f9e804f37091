"""`make gpu-check`, small, on a CPU: where little is installed, and with planted faults."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import subprocess
import sys
import venv

import pytest
import torch
from packaging.requirements import Requirement

from tests.helpers import ROOT

PLACE = ROOT / "benchmarks" / "gpu"
sys.path.insert(0, str(PLACE))

import agreement  # noqa: E402
import check  # noqa: E402
import gpu_tests  # noqa: E402
import report  # noqa: E402
import seconds  # noqa: E402
import sparse  # noqa: E402
import tuning  # noqa: E402
import worker  # noqa: E402

from prunegrid.models import masked_product, sparse_kernels  # noqa: E402


@pytest.fixture
def setting(tmp_path):
    return worker.Setting("cpu", True, tmp_path)


def rows_of(checks, setting):
    return {row.line: row for _, rows in worker.run_checks(checks, setting) for row in rows}


def named(checks, name):
    return [one for one in checks if one.name == name]


def distributions(*names):
    """Return the installed packages of these names and all that they require."""
    found, todo = {}, list(names)
    while todo:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            package = importlib.metadata.distribution(todo.pop())
            if package.metadata["Name"] not in found:
                found[package.metadata["Name"]] = package
                needs = map(Requirement, package.requires or [])
                todo += [n.name for n in needs if not n.marker or n.marker.evaluate({"extra": ""})]
    return found.values()


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Return a Python that has torch, transformers, safetensors and what they require alone."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for package in distributions("torch", "transformers", "safetensors", "numpy"):
        for top in {file.parts[0] for file in package.files} - {"..", "__pycache__"}:
            with contextlib.suppress(FileExistsError):
                (site / top).symlink_to(package.locate_file(top))
    return folder / "bin" / "python"


def test_it_runs_where_only_torch_transformers_and_safetensors_are(bare, tmp_path):
    out = tmp_path / "found.json"
    command = [bare, PLACE / "check.py", "--device", "cpu", "--small", "--json", out]
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True, env={})
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(out.read_text())
    assert found["is_gpu"] is False and "This is not a GPU" in ran.stdout
    assert found["machine"]["peft"] is None and found["machine"]["pytest"] is None
    verdicts = {row["line"]: row["verdict"] for row in found["rows"]}
    assert verdicts.pop("masked LoRA") == "not run: peft is not installed"
    assert verdicts.pop("masked QLoRA") == "not run: peft is not installed"
    skipped = {line for line, verdict in verdicts.items() if verdict.startswith("not run: no GPU")}
    assert {line.partition(":")[0] for line in skipped} == {"tests", "2"}
    assert {verdict for line, verdict in verdicts.items() if line not in skipped} == {"ok"}
    assert len(verdicts) - len(skipped) == 3 + 1 + 2 * 8 + 11
    for line, verdict in verdicts.items():
        assert any(line in text and verdict in text for text in ran.stdout.splitlines())


def test_tuning_keeps_zeros_and_learns(setting):
    rows = rows_of(tuning.CHECKS, setting)
    assert len(rows) == 6 and {row.verdict for row in rows.values()} == {"ok"}
    assert rows["masked QLoRA: pruned weights that it filled"].measured == "0"


def test_a_filled_zero_differs(setting, monkeypatch):
    monkeypatch.setattr(masked_product, "under_mask", lambda bits, weight, scratch: weight)
    rows = rows_of(named(tuning.CHECKS, "masked LoRA"), setting)
    assert [line for line, row in rows.items() if row.differs] == [
        "masked LoRA: pruned weights that it filled"
    ]


@pytest.mark.parametrize(
    ("planted", "expected"),
    [("mask", ["equal masks"]), ("perplexity", ["perplexity, to the CPU's"]), (None, [])],
)
def test_a_wrong_mask_or_perplexity_differs(setting, monkeypatch, planted, expected):
    plain, results = agreement.alone, []

    def second_is_wrong(*arguments):
        results.append(plain(*arguments))
        found = results[-1]
        if len(results) == 2 and planted == "mask":
            min(found.masks.items())[1].logical_not_()
        if len(results) == 2 and planted == "perplexity":
            return agreement.Result(found.masks, found.perplexity * 1.05)
        return found

    monkeypatch.setattr(agreement, "alone", second_is_wrong)
    rows = rows_of(named(agreement.CHECKS, "wanda 2:4, sequential"), setting)
    wrong = [line for line, row in rows.items() if row.differs]
    assert len(rows) == 2 and [line.partition(": ")[2] for line in wrong] == expected


def test_products_in_tf32_differ(setting, monkeypatch):
    def rounded(tensor):
        if tensor.dtype != torch.float32:
            return tensor
        bits = tensor.contiguous().view(torch.int32)
        return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)

    plain = torch.nn.functional.linear
    monkeypatch.setattr(agreement.functional, "linear", lambda x, w: plain(rounded(x), rounded(w)))
    rows = rows_of(named(agreement.CHECKS, "float32 products"), setting)
    assert [line for line, row in rows.items() if row.differs] == ["float32 linear: largest error"]


def test_weights_without_the_pattern_differ(setting, monkeypatch):
    monkeypatch.setattr(seconds.ours, "prune_model", lambda *_, **__: None)
    seconds.model_and_tokens.cache_clear()
    rows = rows_of(named(seconds.CHECKS, "pruning wanda 2:4 sequential"), setting)
    seconds.model_and_tokens.cache_clear()
    (row,) = rows.values()
    assert row.differs and "broken_groups" in row.error


def test_each_work_of_the_benchmark_has_its_seconds():
    assert set(seconds.works()) == set(seconds.CPU_SECONDS)


@pytest.mark.parametrize(("scale", "left", "wrong"), [(1, 0, 0), (2, 0, 1), (1, 1, 1)])
def test_sparse_kernels_that_compute_or_run_something_else_differ(
    setting, monkeypatch, scale, left, wrong
):
    @contextlib.contextmanager
    def running(model, device):
        head = model.lm_head.weight
        model.lm_head.weight = torch.nn.Parameter(head.detach() * scale)
        yield len(sparse.prunable(model)) - left
        model.lm_head.weight = head

    monkeypatch.setattr(sparse_kernels, "allowed", lambda device: True)
    monkeypatch.setattr(sparse_kernels, "running", running)
    rows = rows_of(sparse.CHECKS, setting)
    assert len(rows) == 3 and sum(row.differs for row in rows.values()) == wrong, rows


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
    assert check.missing("cpu") == "gpu-check needs transformers 5.17 or newer; 5.9.1 is installed."
    versions["transformers"] = "5.17.0"
    assert "safetensors 0.6 or newer, which is not installed" in check.missing("cpu")
    versions["safetensors"] = "0.6.2"
    assert check.missing("cpu") == ""
    versions["torch"] = "2.10.1"
    assert check.missing("cpu") == "gpu-check needs torch 2.11 or newer; 2.10.1 is installed."


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
