"""`make gpu-check`, small, on a CPU: where little is installed, and with planted faults."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import subprocess
import venv

import pytest
import torch
from packaging.requirements import Requirement

from prunegrid.models import masked_product, sparse_kernels
from tests.helpers.gpu_check import (
    PLACE,
    agreement,
    rows_of,
    seconds,
    sparse,
    tuning,
    worker,
)


@pytest.fixture
def setting(tmp_path):
    return worker.Setting("cpu", True, tmp_path)


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
