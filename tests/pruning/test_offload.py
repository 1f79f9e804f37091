"""Models held a block at a time: the same bytes as held whole, and never two blocks in memory."""

import importlib.util
import json
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from prunegrid.common.errors import AttestationError
from prunegrid.models import blocks, checkpoint
from prunegrid.models.loading import auto_class, kind_of
from prunegrid.pruning import layerwise, offload
from prunegrid.pruning.holding import Boundary, Storage
from prunegrid.stages import calibration, hessians, prune
from tests.helpers import ROOT
from tests.helpers.architectures import ARCHITECTURES, build, ties
from tests.helpers.pruning_jobs import (
    BY_BLOCK,
    SAMPLES,
    SPARSEGPT,
    WANDA,
    Job,
    record_of,
    write_artifact,
    write_model,
)
from tests.helpers.pruning_jobs import parents as parents  # a fixture

pytestmark = pytest.mark.model

BENCHMARK = ROOT / "benchmarks/memory/run.py"
SIZE = {"vocab_size": 260, "num_hidden_layers": 3, "num_attention_heads": 4}
MODELS = {
    "llama": {"hidden_size": 32, "intermediate_size": 48, "num_key_value_heads": 2,
              "max_position_embeddings": 128, "tie_word_embeddings": True},
    "opt": {"hidden_size": 32, "ffn_dim": 48, "word_embed_proj_dim": 16,
            "do_layer_norm_before": False, "max_position_embeddings": 128},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128},
}  # fmt: skip
HALF = {**WANDA, "pattern": "unstructured", "sparsity": 0.5}


@pytest.fixture(scope="module", params=MODELS)
def folder(request, tmp_path_factory):
    """A dense artifact with random norms and biases."""
    config = AutoConfig.for_model(request.param, **SIZE, **MODELS[request.param])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
    return write_model(tmp_path_factory.mktemp(request.param) / "model", model)


@pytest.fixture(scope="module")
def calibrated(folder, parents, tmp_path_factory):
    """The calibration of the model held whole, and of it held by block."""
    made = []
    for memory in (Job("").memory, BY_BLOCK):
        place = tmp_path_factory.mktemp("calibrated")
        sources = {"model": folder, "data": parents["data"]}
        job = Job(place / "scratch", memory=memory)
        made.append(
            write_artifact(
                place / "out", lambda out, j=job, s=sources: calibration.run(SAMPLES, s, out, j)
            )
        )
    return made


def pruned(place, folder, calibrated, settings, memory, **more):
    job = Job(place / "scratch", memory=memory)
    sources = {"weights": folder, "calibration": calibrated, **more}
    return write_artifact(place / "out", lambda out: prune.run(settings, sources, out, job))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_empty_model_has_the_buffers_and_ties_of_a_whole_one(name):
    config = build(name).config
    whole, empty = auto_class(kind_of(config)).from_config(config), offload.empty_model(config)
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert ties(empty) == ties(whole)
    buffers = dict(empty.named_buffers())
    assert buffers.keys() == dict(whole.named_buffers()).keys()
    for key, buffer in whole.named_buffers():
        torch.testing.assert_close(buffers[key], buffer, rtol=0, atol=0)


def test_norms_are_the_same_bytes(calibrated):
    whole, part = (load_file(made / "input_norms.safetensors") for made in calibrated)
    assert whole.keys() == part.keys()
    assert all(torch.equal(whole[name], part[name]) for name in whole)


@pytest.mark.parametrize(
    "settings",
    [
        WANDA,
        {**HALF, "allocation": "owl"},
        {**HALF, "allocation": "error", "method": "magnitude"},
        {**HALF, "allocation": "alpha", "method": "magnitude"},
        {**HALF, "method": "magnitude", "scope": "model"},
        SPARSEGPT,
        {**SPARSEGPT, "propagation": "single-pass"},
        {**SPARSEGPT, "propagation": "dense"},
        {**WANDA, "propagation": "dense"},
    ],
    ids=lambda s: "-".join(str(value) for value in s.values()),
)
def test_pruned_weights_are_the_same_and_load_anywhere(tmp_path, folder, calibrated, settings):
    whole = pruned(tmp_path / "whole", folder, calibrated[0], settings, Job("").memory)
    part = pruned(tmp_path / "part", folder, calibrated[0], settings, BY_BLOCK)
    first, second = (record_of(made)["weights"] for made in (whole, part))
    # Only the layout of the files differs.
    assert {**first, "file_bytes": 0} == {**second, "file_bytes": 0}
    assert checkpoint.load(part).record == second
    assert checkpoint.file_weights_sha256(part) == second["sha256"]
    report = json.loads((part / "prune.json").read_text())
    assert report == json.loads((whole / "prune.json").read_text())
    plain, shards = (AutoModelForCausalLM.from_pretrained(made) for made in (whole, part))
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(plain(tokens).logits, shards(tokens).logits)
    assert not list((tmp_path / "part/scratch").glob("hidden*"))


def test_hessians_are_the_same_bytes_and_cells_are_pruned_by_them(
    tmp_path, folder, calibrated, monkeypatch
):
    """A cell that is given them runs no pass of the model."""
    settings = {**SPARSEGPT, "propagation": "dense"}
    measured = []
    for name, memory, samples in (
        ("whole", Job("").memory, calibrated[0]),
        ("part", BY_BLOCK, calibrated[1]),
    ):
        job = Job(tmp_path / name / "scratch", memory=memory)
        sources = {"model": folder, "calibration": samples}
        measured.append(
            write_artifact(
                tmp_path / name / "hessians",
                lambda out, j=job, s=sources: hessians.run({"include": []}, s, out, j),
            )
        )
    whole, part = (json.loads((made / "manifest.json").read_text()) for made in measured)
    assert whole["files"] == part["files"] and whole["record"] == part["record"]
    cell = pruned(tmp_path / "own", folder, calibrated[0], settings, Job("").memory)
    monkeypatch.setattr(layerwise, "Replay", lambda *_: pytest.fail("the model was run"))
    for memory, made in zip((Job("").memory, BY_BLOCK), measured, strict=True):
        place = tmp_path / memory["model"]
        other = pruned(place, folder, calibrated[0], settings, memory, hessians=made)
        first, second = (record_of(one)["weights"] for one in (cell, other))
        assert {**first, "file_bytes": 0} == {**second, "file_bytes": 0}


def test_one_block_is_in_memory_at_a_time(tmp_path, folder, calibrated, monkeypatch):
    counts = []

    def count(self, index):
        load(self, index)
        held = [next(b.parameters()).device.type != "meta" for b in self.blocks.modules]
        counts.append(sum(held))

    load = offload.ByBlock.load_block
    monkeypatch.setattr(offload.ByBlock, "load_block", count)
    pruned(tmp_path, folder, calibrated[0], SPARSEGPT, BY_BLOCK)
    assert counts and max(counts) == 1


def test_the_model_by_block_computes_what_it_is(folder):
    whole, part = checkpoint.load(folder).model, offload.ByBlock(folder, "cpu")
    tokens = torch.arange(24)[None]
    with torch.no_grad():
        assert torch.equal(part.model(tokens).logits, whole(tokens).logits)
    found = {**part.weights_of(blocks.prunable(part.model))}
    for name, module in blocks.prunable(whole).items():
        assert torch.equal(found[name], blocks.oriented(module))
    assert part.tokenizer is not None


def test_swapped_weights_are_noticed(folder, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["record"]["weights"]["sha256"] = "0" * 64
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(AttestationError, match="sha256"):
        offload.open_dense(copy, Job(tmp_path, memory=BY_BLOCK))


@pytest.mark.parametrize("chunk", [1, 3, 10])
@pytest.mark.parametrize("place", ["device", "cpu", "disk"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hidden_states_come_back_as_they_were(tmp_path, place, chunk, dtype):
    draw = torch.Generator().manual_seed(0)
    held = Boundary(7, torch.device("cpu"), Storage(place, chunk, tmp_path / "scratch"))
    for _ in range(2):
        values = [torch.randn(1, 5, 6, generator=draw).to(dtype) for _ in range(7)]
        for sample, value in enumerate(values):
            held[sample] = value
        assert all(torch.equal(a, b) for a, b in zip(held, values, strict=True))
    # A sample that is replaced between two reads of its chunk is the new one.
    held[1]
    held[2] = values[0]
    assert torch.equal(held[2], values[0])
    assert len(held) == 7


def test_the_peak_does_not_grow_with_the_layers(monkeypatch):
    """Two sizes in processes of their own: six more layers, and less than one of them in memory."""
    spec = importlib.util.spec_from_file_location("memory_benchmark", BENCHMARK)
    memory = importlib.util.module_from_spec(spec)
    # Its dataclasses look for their module by name.
    monkeypatch.setitem(sys.modules, "memory_benchmark", memory)
    spec.loader.exec_module(memory)
    shapes = [memory.Shape(512, 2), memory.Shape(512, 8)]
    small, large = (memory.measure(shape, "by-block") for shape in shapes)
    assert small["sparsity"] == large["sparsity"] == 0.5
    assert large["peak"] - small["peak"] < shapes[0].block * memory.FLOAT
