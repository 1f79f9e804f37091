"""What products are computed in: how it is settled, keyed, told and warned of."""

from __future__ import annotations

import json
import logging

import pandas
import pytest
from torch import nn

from prunegrid.common import precision
from prunegrid.common.errors import PrunegridError
from prunegrid.config.config_files import ConfigError
from prunegrid.config.load import validate
from prunegrid.graph.artifact_graph import Graph
from prunegrid.models import loading
from prunegrid.tables import render
from prunegrid.tables.contrasts import precision_differs
from tests.helpers import ROOT, shipped


def graph(**changes) -> Graph:
    """Return the graph of the shipped config with top-level keys changed."""
    raw = shipped.config() | changes
    return Graph(validate(raw, shipped.FILES, ROOT), ROOT)


def play(monkeypatch, native: bool) -> None:
    """Let the CPU multiply bfloat16 natively, or not."""
    monkeypatch.setattr(precision, "cpu_flags", lambda _: frozenset(["amx_bf16"] * native))
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)


@pytest.mark.parametrize(
    ("flags", "limit", "native"),
    [
        (["avx2"], "", False),
        (["avx2", "avx512f", "avx512_vnni"], "", False),
        (["avx2", "avx512_bf16"], "", True),
        (["avx512f", "amx_bf16"], "", True),
        (["asimd", "bf16"], "", True),
        (["avx512_bf16"], "AVX2", False),
        (["avx512_bf16"], "avx512_core", False),
        (["amx_bf16"], "AVX512_CORE_BF16", True),
        (["amx_bf16"], "DEFAULT", True),
        ([], "", False),
    ],
)
def test_a_cpu_is_fast_in_bfloat16_by_its_flags_and_onednns_limit(flags, limit, native):
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        assert precision.cpu_is_native(frozenset(flags), {name: limit}) == native


@pytest.mark.parametrize("key", ["flags", "Features"])
def test_flags_are_those_of_the_first_processor(tmp_path, key):
    path = tmp_path / key
    path.write_text(f"model name : x\n{key}\t\t: a avx512_bf16 c\nother : d\n{key} : e\n")
    assert precision.cpu_flags(path) == {"a", "avx512_bf16", "c"}
    assert precision.cpu_flags(tmp_path / "none") == frozenset()


@pytest.mark.parametrize(
    ("said", "native"), [("8.0", True), ("9.0\n8.6", True), ("7.5", False), ("9.0\n7.0", False)]
)
def test_cuda_devices_are_fast_from_compute_capability_8(monkeypatch, tmp_path, said, native):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{said}\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    precision.gpu_capabilities.cache_clear()
    try:
        assert precision.is_native("cuda:0") == native
    finally:
        precision.gpu_capabilities.cache_clear()


def test_without_a_device_in_sight_a_name_is_asked_for(monkeypatch):
    monkeypatch.setattr(precision.shutil, "which", lambda _: None)
    precision.gpu_capabilities.cache_clear()
    with pytest.raises(PrunegridError, match="compute_dtype.*no CUDA device.*--config"):
        precision.resolve("auto", "cuda")
    assert precision.resolve("bfloat16", "cuda") == "bfloat16"
    with pytest.raises(PrunegridError, match="compute_dtype"):
        graph(device="cuda").config.require_resolved()
    graph(device="cuda", compute_dtype="float32").config.require_resolved()


@pytest.mark.parametrize(("native", "resolved"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_the_key_of_the_precision_by_name(monkeypatch, native, resolved):
    play(monkeypatch, native)
    auto, named = graph(), graph(compute_dtype=resolved)
    other = graph(compute_dtype="float32" if native else "bfloat16")

    def chains(one):
        return [[node.key for node in plan.chain] for plan in one.plans("demo")]

    assert chains(auto) == chains(named)
    changed = [a != b for a, b in zip(chains(auto), chains(other), strict=True)]
    tuned = ["finetune" in {node.stage for node in plan.chain} for plan in auto.plans("demo")]
    assert changed == tuned and any(tuned) and not all(tuned)
    for plan in auto.plans("demo"):
        for node in plan.chain:
            wanted = {"finetune": resolved, "model": None}.get(node.stage, "float32")
            assert node.compute_dtype == wanted
            assert node.params()["compute_dtype"] == wanted


def test_what_says_its_precision_keeps_it(monkeypatch):
    for native in (True, False):
        play(monkeypatch, native)
        found = {plan.chain[-1].compute_dtype for plan in graph().plans("table3-legacy")}
        assert found <= {"float32", None}


@pytest.mark.parametrize(("native", "resolved"), [(True, "bfloat16"), (False, "float32")])
def test_weights_stored_in_bfloat16_are_computed_in_what_is_fast(monkeypatch, native, resolved):
    play(monkeypatch, native)
    for plan in graph(dtype="bfloat16").plans("criteria"):
        assert {node.compute_dtype for node in plan.perplexities.values()} == {resolved}
        assert all(n.compute_dtype == resolved for n in plan.chain if n.stage == "prune")
    for plan in graph(dtype="bfloat16").plans("demo"):
        for made, scores in plan.texts.values():
            assert made.compute_dtype in (resolved, "float32")
            assert scores.compute_dtype == "float32"  # a metric's model is read in float32
    stored = {}
    for plan in graph().plans("precision"):
        last = plan.chain[-1].settings.get("precision", "float32")
        stored.setdefault(last, set()).update(n.compute_dtype for n in plan.perplexities.values())
    assert stored["bfloat16"] == {resolved}
    assert stored["int8"] == stored["nf4"] == stored["float32"] == {"float32"}


@pytest.mark.parametrize(("value", "stands"), [(True, "bfloat16"), (False, "float32")])
def test_true_and_false_are_precisions_too(value, stands):
    raw = shipped.config()
    raw["finetune"]["full"]["autocast"] = value
    assert validate(raw, shipped.FILES, ROOT).sections["finetune"]["full"].autocast == stands


@pytest.mark.parametrize("value", ["yes please", "bfloat32", 16, None])
def test_another_word_is_told_with_the_nearest(value):
    raw = shipped.config()
    raw["finetune"]["full"]["autocast"] = value
    raw["compute_dtype"] = value
    with pytest.raises(ConfigError) as caught:
        validate(raw, shipped.FILES, ROOT)
    assert len(caught.value.faults) == 2
    for fault, place in zip(caught.value.faults, ("compute_dtype", "autocast"), strict=True):
        assert place in fault and "auto, bfloat16, float32" in fault


def test_where_jobs_run_elsewhere_auto_asks_for_a_name(tmp_path):
    with pytest.raises(PrunegridError, match="other machines.*compute_dtype=bfloat16"):
        precision.describe(graph().config, tmp_path, local=False)
    named = graph(compute_dtype="bfloat16").config
    assert "bfloat16" in precision.describe(named, tmp_path, local=False)


def test_another_machines_tunings_are_told(monkeypatch, tmp_path):
    play(monkeypatch, native=False)
    config = graph().config
    assert "There are" not in precision.describe(config, tmp_path, local=True)
    folder = tmp_path / "artifacts/finetune/abc"
    folder.mkdir(parents=True)
    for dtype, told in (("float32", False), ("bfloat16", True)):
        (folder / "manifest.json").write_text(json.dumps({"compute_dtype": dtype}))
        said = precision.describe(config, tmp_path, local=True)
        assert ("--config compute_dtype=bfloat16" in said) == told
    (folder / "manifest.json").write_text("{damaged")
    assert "There are" not in precision.describe(config, tmp_path, local=True)


def test_emulation_is_told_once_with_its_ratio_and_only_where_it_is(monkeypatch, caplog):
    monkeypatch.setattr(precision, "emulation_ratio", lambda device: 9.4)
    with caplog.at_level(logging.WARNING):
        play(monkeypatch, native=True)
        precision.warn_if_emulated("bfloat16", "cpu", "a step")
        play(monkeypatch, native=False)
        precision.warn_if_emulated("float32", "cpu", "a step")
        precision.warn_if_emulated(None, "cpu", "a step")
        assert not caplog.records
        precision.warn_if_emulated("bfloat16", "cpu", "a step")
    (record,) = caplog.records
    assert "a step" in record.getMessage() and "9.4 times" in record.getMessage()


def test_the_probe_measures_a_ratio():
    assert precision.emulation_ratio("cpu") > 0


def test_only_a_difference_between_tunings_or_evaluations_marks_a_contrast():
    def side(tuned, evaluated="float32"):
        return [{"compute_dtype": tuned, "evaluation_dtype": evaluated}]

    assert precision_differs(side("bfloat16"), side("bfloat16")) is None
    assert precision_differs(side("bfloat16"), side(None)) is None
    told = precision_differs(side("bfloat16"), side("float32"))
    assert told == "tuned in bfloat16 against float32"
    told = precision_differs(side(None, "bfloat16"), side(None))
    assert told == "evaluated in bfloat16 against float32"


def test_a_table_of_unlike_precisions_says_so():
    def frame(*pairs):
        return pandas.DataFrame(pairs, columns=["compute_dtype", "evaluation_dtype"])

    assert not render.precision_notes(frame(("bfloat16", "float32"), (None, "float32")))
    (told,) = render.precision_notes(frame(("bfloat16", "float32"), ("float32", "float32")))
    assert "1 in bfloat16, 1 in float32" in told and "`compute_dtype`" in told


def test_weights_are_widened_and_given_back_to_the_bit():
    import torch

    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).bfloat16()
    model[0].weight.requires_grad_(False)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with loading.computing_in(model, "float32"):
        for name, tensor in model.state_dict().items():
            floats = before[name].is_floating_point()
            assert tensor.dtype == (torch.float32 if floats else before[name].dtype)
            assert torch.equal(tensor.to(before[name].dtype), before[name])
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == before[name].dtype and torch.equal(tensor, before[name])
    wide = nn.Linear(2, 2)
    assert loading.compute_in(wide, "bfloat16").weight.dtype == torch.float32
