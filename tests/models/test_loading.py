"""Weights stored in bfloat16, computed in float32: each step gives the float32 twin's result."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from prunegrid.models import checkpoint, open_checkpoint, quantized
from prunegrid.models.forward import run_window
from prunegrid.stages import calibration, prune
from tests.helpers import tiny
from tests.helpers.pruning_jobs import (
    HALF,
    SAMPLES,
    SPARSEGPT,
    WANDA,
    Job,
    tiny_model,
    write_artifact,
)
from tests.helpers.pruning_jobs import write_model as written

pytestmark = pytest.mark.model

BY_BLOCK = {"model": "by-block", "activations": "device", "chunk": 8}
WHOLE = BY_BLOCK | {"model": "whole"}


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Models of one value a weight: stored in bfloat16, and in float32."""
    folder = tmp_path_factory.mktemp("twins")
    rounded = tiny_model(torch.bfloat16)
    return {
        torch.bfloat16: written(folder / "bfloat16", rounded),
        torch.float32: written(folder / "float32", tiny_model(torch.bfloat16).float()),
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    import pyarrow as pa
    import pyarrow.parquet as pq

    def fill(out):
        texts = [f"document {i} says " + "something else and " * (i % 4) for i in range(12)]
        table = {"id": [str(i) for i in range(12)], "text": texts}
        pq.write_table(pa.table(table), out / "train.parquet")
        return {}

    return write_artifact(tmp_path_factory.mktemp("data") / "data", fill)


def pruned(folder, settings, weights, data, memory):
    """Return the tensors that calibrating and pruning give."""
    job = Job(folder, memory=memory)
    parents = {"model": weights, "data": data}
    made = write_artifact(
        folder / "calibration", lambda out: calibration.run(SAMPLES, parents, out, job)
    )
    sources = {"weights": weights, "calibration": made}
    out = write_artifact(folder / "pruned", lambda place: prune.run(settings, sources, place, job))
    tensors = {}
    for path in checkpoint.weight_files(out):
        tensors |= load_file(path)
    return tensors, load_file(made / "input_norms.safetensors")


@pytest.mark.parametrize("memory", [WHOLE, BY_BLOCK], ids=["whole", "by-block"])
@pytest.mark.parametrize("settings", [WANDA, SPARSEGPT | HALF], ids=["wanda", "sparsegpt"])
def test_pruning_is_the_float32_twins_rounded_once(tmp_path, twins, data, settings, memory):
    stored, norms = pruned(tmp_path / "b", settings, twins[torch.bfloat16], data, memory)
    wanted, wanted_norms = pruned(tmp_path / "f", settings, twins[torch.float32], data, memory)
    assert stored.keys() == wanted.keys()
    for name, tensor in stored.items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, wanted[name].bfloat16()), name
    assert all(torch.equal(norms[name], wanted_norms[name]) for name in norms)


def test_an_evaluation_computes_as_the_twin_and_attests_what_is_stored(twins):
    ids = torch.arange(16)[None]
    found = open_checkpoint.load(twins[torch.bfloat16], compute_dtype="float32")
    twin = open_checkpoint.load(twins[torch.float32], compute_dtype="float32")
    assert found.record["precision"] == "bfloat16" != twin.record["precision"]
    assert found.record["sha256"] == checkpoint.file_weights_sha256(twins[torch.bfloat16])
    with torch.no_grad():
        logits = [run_window(one.model, ids).logits for one in (found, twin)]
    assert logits[0].dtype == torch.float32 and torch.equal(*logits)
    narrow = open_checkpoint.load(twins[torch.bfloat16], compute_dtype="bfloat16").model
    assert {p.dtype for p in narrow.parameters()} == {torch.bfloat16}


def test_packed_weights_stay_packed(tmp_path):
    folder = tiny.artifact(tmp_path / "model", "llama", dtype=torch.bfloat16)
    model = quantized.quantize(folder, "cpu", "nf4", double_quant=True)
    packed = {n: p.clone() for n, p in model.named_parameters() if not p.is_floating_point()}
    open_checkpoint.compute_in(model, "float32")
    floats = {p.dtype for p in model.parameters() if p.is_floating_point()}
    assert floats == {torch.float32} and packed
    assert all(torch.equal(model.get_parameter(name), p) for name, p in packed.items())
    with torch.no_grad():
        assert model(input_ids=torch.arange(8)[None]).logits.dtype == torch.float32


@pytest.mark.parametrize("strategy", ["full", "lora", "qlora"])
def test_tuning_in_float32_leaves_the_stored_dtype(tmp_path, strategy):
    from prunegrid.stages import finetune

    folder = tiny.artifact(tmp_path / "model", "llama", "2:4", dtype=torch.bfloat16)
    parents = {"weights": folder, "data": tiny.data(tmp_path / "data")}
    out = tmp_path / "out"
    out.mkdir()
    settings = tiny.finetune(strategy, autocast="float32")
    record = finetune.run(settings, parents, out, tiny.job(scratch=tmp_path / "scratch"))
    assert record["train"]["compute_dtype"] == "float32"
    before = {}
    for path in checkpoint.weight_files(folder):
        before |= load_file(path)
    for path in checkpoint.weight_files(out):
        if path.parent.name == "adapter":
            continue
        for name, tensor in load_file(path).items():
            if name in before and tensor.is_floating_point():
                assert tensor.dtype == torch.bfloat16, name
                if strategy == "qlora":
                    assert torch.equal(tensor, before[name]), name
