"""Timing a cell's packed weights: what runs, what the record says, and what cannot be packed."""

from __future__ import annotations

import pytest

from prunegrid.common import file_io, packed_kernels
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.evaluation import packed_form
from prunegrid.models.packed import operators
from prunegrid.models.packed.packed_weights import PackedWeights
from prunegrid.stages import efficiency, passes, transform
from tests.helpers import tiny
from tests.helpers.packed_kernels import kernel_cache as kernel_cache  # fixtures
from tests.helpers.packed_kernels import kernels as kernels
from tests.helpers.timing import SETTINGS

pytestmark = pytest.mark.model


def timed(parents, out, values, kernel, stage=efficiency):
    out.mkdir()
    settings = SETTINGS | {"packed": {"values": values, "kernel": kernel}}
    record = stage.run(settings, parents, out, tiny.job())
    return record, file_io.read_json(out / "efficiency.json")


@pytest.fixture
def parents(tmp_path):
    return {
        "weights": tiny.artifact(tmp_path / "pruned", "llama", "2:4"),
        "dense": tiny.artifact(tmp_path / "dense", "llama"),
    }


@pytest.mark.parametrize("stage", [efficiency, passes])
@pytest.mark.parametrize("values", ["exact", "bfloat16", "int8"])
def test_the_packed_cell_takes_turns_with_the_dense_untouched_model(
    tmp_path, kernels, parents, values, stage
):
    record, stored = timed(parents, tmp_path / "out", values, "plain", stage)
    assert record["versus"].keys() == {"dense"} and record["pairs"] == 5
    assert {turn["model"] for turn in stored["turns"]} == {"dense", "cell"}
    form = record["form"]
    own = "float32" if values == "exact" else values
    assert (form["form"], form["values"], form["kernel"]) == ("packed", own, "plain")
    head = 0 if values == "exact" else 1  # narrow values make it smaller
    assert form["linears"] > 0 and form["linears"] + form["linears_dense"] == 14 + head
    weights = record["weights"]
    assert (
        weights["sha256"]
        == file_io.read_json(parents["weights"] / "manifest.json")["record"]["weights"]["sha256"]
    )
    assert record["peak_memory_bytes"] > form["resident_bytes"] > 0


def test_narrow_values_take_less_memory(tmp_path, kernels, parents):
    sizes = [
        packed_form.load(parents["weights"], {"values": v, "kernel": "plain"}, "cpu")[1]
        for v in ("float32", "bfloat16", "int8")
    ]
    sizes = [facts["resident_bytes"] for facts in sizes]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3


def test_the_untouched_model_runs_beside_its_packed_self(tmp_path, kernels, parents):
    record, _ = timed({"weights": parents["dense"]}, tmp_path / "out", "int8", "plain")
    assert record["versus"].keys() == {"dense"} and record["form"]["values"] == "int8"


def test_quantized_weights_run_as_they_are_and_say_so(tmp_path, kernels, parents):
    out = tmp_path / "int8"
    out.mkdir()
    settings = {"strategy": "quantize", "double_quant": True, "precision": "int8"}
    made = transform.run(settings, {"weights": parents["weights"]}, out, tiny.job())
    tiny.finish(out, made["weights"])
    record, _ = timed({**parents, "weights": out}, tmp_path / "out", "float32", "plain")
    assert record["form"] == packed_form.DENSE | {"reason": packed_form.IN_PARTS}
    assert packed_form.load(parents["weights"], {"values": "int8", "kernel": None}, "cuda:0") == (
        None,
        packed_form.DENSE | {"reason": packed_form.ON_GPU},
    )


def test_without_a_compiler_linears_are_dense_and_the_record_has_no_kernel(parents):
    facts = packed_form.load(parents["weights"], {"values": "int8", "kernel": None}, "cpu")[1]
    assert facts["kernel"] is None and facts["linears"] == 0 < facts["linears_dense"]


def test_a_kernel_that_this_cpu_lacks_is_an_error(kernels, parents):
    missing = next(name for name in packed_kernels.KERNELS if name not in operators.usable())
    with pytest.raises(PrunegridError, match=f"this CPU has no {missing}"):
        packed_form.load(parents["weights"], {"values": "int8", "kernel": missing}, "cpu")


def test_other_weights_in_memory_than_in_the_folder_are_found(kernels, parents, monkeypatch):
    monkeypatch.setattr(PackedWeights, "dense_sha256", lambda self: "another")
    with pytest.raises(AttestationError, match="packed weights in memory"):
        packed_form.load(parents["weights"], {"values": "float32", "kernel": "plain"}, "cpu")


def test_the_planned_kernel_is_the_one_that_runs(kernels):
    assert packed_kernels.planned() == operators.load() == operators.usable()[0]


def test_the_kernel_is_planned_by_what_the_cpu_lists(monkeypatch, tmp_path):
    facts = tmp_path / "cpuinfo"
    monkeypatch.setattr(packed_kernels, "CPU_FACTS", facts)
    monkeypatch.delenv(packed_kernels.VARIABLE, raising=False)
    monkeypatch.setattr(packed_kernels, "compiler", lambda environment: ["c++"])
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    every = " ".join(set().union(*packed_kernels.NEEDS.values()))
    for flags, kernel in ((every, "avx512"), ("fma avx2 popcnt", "avx2"), ("avx2", "plain")):
        facts.write_text(f"flags : {flags}\n")
        packed_kernels.cpu_flags.cache_clear()
        assert packed_kernels.planned() == kernel
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert packed_kernels.planned() == "neon"
    monkeypatch.setattr(packed_kernels, "compiler", lambda environment: [])
    assert packed_kernels.planned() is None
    monkeypatch.setenv(packed_kernels.VARIABLE, "plain")
    assert packed_kernels.planned() == "plain"
    packed_kernels.cpu_flags.cache_clear()
