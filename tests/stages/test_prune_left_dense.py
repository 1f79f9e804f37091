"""What a prune step leaves dense: its record, and how later steps count and keep it."""

from __future__ import annotations

import fnmatch
import json

import pandas
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from prunegrid.artifacts import artifact_folder
from prunegrid.commands import verify
from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation import sizes
from prunegrid.models import blocks, checkpoint, open_checkpoint, weight_census
from prunegrid.models.packed import plain_tensors
from prunegrid.pruning.dense_statistics import dense_norms
from prunegrid.stages import calibration, prune
from prunegrid.stages import model as import_stage
from tests.helpers import odd_models, shrunken, tiny, tuning
from tests.helpers.pruning_jobs import (
    BY_BLOCK,
    HALF,
    SAMPLES,
    SPARSEGPT,
    WANDA,
    Job,
    record_of,
    run_prune,
    write_artifact,
    write_model,
)
from tests.helpers.pruning_jobs import parents as parents  # a fixture
from tests.helpers.tuning import change, tune

pytestmark = pytest.mark.model

MAGNITUDE = {"method": "magnitude", "pattern": "2:4", "sparsity": None, "scope": None}
OUT = ["*.k_proj", "model.layers.0.mlp.*"]


@pytest.fixture(scope="module")
def excluded(tmp_path_factory):
    """A Llama pruned to 2:4 but for some linears."""
    place = tmp_path_factory.mktemp("excluded")
    parent = tiny.artifact(place / "parent", "llama")
    out = place / "pruned"
    out.mkdir()
    job = tiny.job(scratch=place)
    record = prune.run(MAGNITUDE | {"exclude": OUT}, {"weights": parent}, out, job)
    tiny.finish(out, record["weights"])
    return parent, out, record


def tensors_of(folder):
    return {k: v for path in folder.glob("*.safetensors") for k, v in load_file(path).items()}


def names_out(model):
    return {n for n in blocks.prunable(model) if any(fnmatch.fnmatch(n, p) for p in OUT)}


def test_the_record_says_what_stays_dense_and_counts_the_rest(excluded):
    parent, out, record = excluded
    before, after = tensors_of(parent), tensors_of(out)
    linears = blocks.prunable(checkpoint.load(parent).model)
    names = names_out(checkpoint.load(parent).model)
    weights = record["weights"]
    total = sum(before[f"{n}.weight"].numel() for n in linears.keys() - names)
    zeros = sum(int((after[f"{n}.weight"] == 0).sum()) for n in linears.keys() - names)
    assert weights["prunable_parameters"] == total and weights["prunable_zeros"] == zeros
    assert weights["sparsity_prunable"] == 0.5 and weights["nm_valid"]
    everything = sum(before[f"{n}.weight"].numel() for n in linears)
    assert weights["prunable_share"] == total / everything
    assert weights["excluded_share"] == pytest.approx(1 - total / everything)
    assert weights["router_share"] == weights["uncalled_share"] == 0
    assert weights["exclude"] == OUT and "uncalled" not in weights
    shapes = {n: list(before[f"{n}.weight"].shape) for n in names}
    assert record["left_dense"] == {"excluded": shapes}
    for name in names:
        assert torch.equal(before[f"{name}.weight"], after[f"{name}.weight"])
    assert checkpoint.load(out).record == weights


def test_a_dense_model_is_all_prunable_and_excludes_nothing(excluded):
    record = checkpoint.load(excluded[0]).record
    assert record["prunable_share"] == 1 and record["excluded_share"] == 0
    assert not {"exclude", "uncalled"} & record.keys()


CHANGES = [
    ("tune", {"strategy": "full"}),
    ("tune", {"strategy": "lora"}),
    ("tune", {"strategy": "lora", "adapter": "unmerged"}),
    ("tune", {"strategy": "qlora"}),
    ("tune", {"strategy": "qlora", "adapter": "merged"}),
    ("change", {"strategy": "quantize", "precision": "nf4", "double_quant": True}),
    ("change", {"strategy": "quantize", "precision": "int8", "double_quant": True}),
]


@pytest.mark.parametrize("how, settings", CHANGES)
def test_later_steps_keep_its_zeros_and_free_the_rest(tmp_path, excluded, how, settings):
    parent, pruned, before = excluded
    made = tune if how == "tune" else change
    if how == "tune":
        settings = settings | {"epochs": 1, "learning_rate": 2e-2}
    record, out = made(tmp_path, pruned, **settings)
    weights = record["weights"]
    same = ("prunable_parameters", "prunable_share", "excluded_share", "exclude", "pattern")
    assert {k: weights[k] for k in same} == {k: before["weights"][k] for k in same}
    assert weights["nm_valid"] and weights["sparsity_effective"] >= 0.5
    loaded = open_checkpoint.load(out)
    assert loaded.record == weights
    adapters = sum(p.numel() for n, p in loaded.model.named_parameters() if ".lora_" in n)
    assert weights["parameters"] == before["weights"]["parameters"] + adapters
    full = {name: both for name, _, both in loaded.weights()}
    names = names_out(checkpoint.load(pruned).model)
    assert names < full.keys()
    if how == "tune":
        old = tensors_of(pruned)
        for name in names:
            moved = full[name].float() != old[f"{name}.weight"]
            assert moved.float().mean() > 0.5, name


def test_reconstruction_leaves_dense_what_pruning_left(tmp_path, excluded):
    dense, pruned, record = excluded
    inputs = {"dense": dense, "calibration": tuning.calibration(tmp_path / "c")}
    made, out = change(tmp_path, pruned, parents=inputs, **tuning.REFIT)
    before, after = tensors_of(pruned), tensors_of(out)
    names = names_out(checkpoint.load(pruned).model)
    assert names and all(torch.equal(before[f"{n}.weight"], after[f"{n}.weight"]) for n in names)
    zeros = record["weights"]["prunable_zeros"]
    assert made["weights"]["prunable_zeros"] == zeros and made["weights"]["nm_valid"]
    assert made["transform"]["error_after"] < made["transform"]["error_before"]


def test_sizes_code_every_linear_of_the_blocks(tmp_path, excluded):
    """As quantizing does: what pruning left dense is in NF4 too."""
    _, pruned, _ = excluded
    _, packed = change(tmp_path, pruned, strategy="quantize", precision="nf4", double_quant=True)
    plain = plain_tensors.of(open_checkpoint.load(pruned))
    coded = plain_tensors.of(open_checkpoint.load(packed))
    assert plain.linears.keys() == coded.linears.keys() and len(plain.linears) == 14
    assert coded.tensors.keys() == plain.tensors.keys()
    found = sizes.measure(plain, "2:4", tmp_path, "here", False)["bytes"]
    assert found["nf4"] < found["dense_float32"] / 3


def test_verify_counts_the_shares_again(excluded):
    _, pruned, record = excluded
    manifest = {"key": "k", "files": artifact_folder.list_files(pruned), "record": record}
    manifest["content"] = artifact_folder.content_digest(manifest["files"])
    before = file_io.read_json(pruned / "manifest.json")
    file_io.write_json(pruned / "manifest.json", manifest)
    cell = {"chain": [{"path": pruned, "key": "k"}]}
    row = pandas.Series(record["weights"] | {"weights_sha256": record["weights"]["sha256"]})
    try:
        assert not list(verify.weight_faults(cell, row))
        (told,) = verify.weight_faults(cell, pandas.Series(row.to_dict() | {"excluded_share": 0.0}))
        assert "excluded_share" in told
        older = row.drop(["prunable_share", "excluded_share", "router_share", "uncalled_share"])
        assert not list(verify.weight_faults(cell, older))
    finally:
        file_io.write_json(pruned / "manifest.json", before)


def test_weights_of_an_older_record_can_be_read(tmp_path):
    """Adopted artifacts were recorded before the shares were."""
    folder = tiny.artifact(tmp_path / "old", "gpt2")
    record = checkpoint.load(folder).record
    older = {key: value for key, value in record.items() if not key.endswith("_share")}
    tiny.finish(folder, older)
    assert checkpoint.load(folder).record == record
    tiny.finish(folder, older | {"prunable_share": 0.5})
    with pytest.raises(PrunegridError, match="prunable_share"):
        checkpoint.load(folder)


def test_units_cannot_go_after_linears_were_left_dense(tmp_path, excluded):
    out = tmp_path / "out"
    out.mkdir()
    settings = shrunken.settings("magnitude", ["mlp"], 0.3)
    with pytest.raises(PrunegridError, match=r"k_proj.*remove units first"):
        prune.run(settings, {"weights": excluded[1]}, out, tiny.job(scratch=tmp_path))


@pytest.mark.parametrize("settings", [WANDA, SPARSEGPT | HALF])
def test_by_block_the_bytes_are_the_same(tmp_path, parents, settings):
    settings = settings | {"exclude": OUT}
    sources = {"model": parents["model"], "data": parents["data"]}
    made = write_artifact(
        tmp_path / "calibration", lambda out: calibration.run(SAMPLES, sources, out, Job(tmp_path))
    )
    whole = run_prune(tmp_path / "whole", settings, parents["model"], made)
    inputs = {"weights": parents["model"], "calibration": made}
    job = Job(tmp_path / "scratch", memory=BY_BLOCK)
    part = write_artifact(tmp_path / "part", lambda out: prune.run(settings, inputs, out, job))
    found = [record_of(folder)["weights"] | {"file_bytes": 0} for folder in (whole, part)]
    assert found[0] == found[1] and found[0]["exclude"] == OUT
    assert checkpoint.load(part).record == record_of(part)["weights"]
    assert record_of(whole)["left_dense"] == record_of(part)["left_dense"]


def test_linears_that_no_sample_reaches_travel_in_the_record(tmp_path, parents):
    model = write_model(tmp_path / "model", wide_mamba())
    sources = {"model": model, "data": parents["data"]}
    made = write_artifact(
        tmp_path / "calibration", lambda out: calibration.run(SAMPLES, sources, out, Job(tmp_path))
    )
    pruned = run_prune(tmp_path / "pruned", WANDA | HALF, model, made)
    record = record_of(pruned)
    uncalled = [f"backbone.layers.{i}.mixer.dt_proj" for i in range(2)]
    assert record["weights"]["uncalled"] == uncalled
    assert list(record["left_dense"]["uncalled"]) == uncalled
    assert 0 < record["weights"]["uncalled_share"] < 0.02
    assert record["weights"]["sparsity_prunable"] == pytest.approx(0.5, abs=1e-4)
    assert checkpoint.load(pruned).record == record["weights"]
    before, after = tensors_of(model), tensors_of(pruned)
    report = json.loads((pruned / "prune.json").read_text())
    for name in uncalled:
        assert torch.equal(before[f"{name}.weight"], after[f"{name}.weight"])
        assert name not in report


def wide_mamba():
    """A Mamba whose dt_proj is small beside the rest, as in a real one."""
    settings = odd_models.ROLES | odd_models.ODD["falcon-mamba"].config
    settings |= {"vocab_size": 260, "time_step_rank": 2}
    config = transformers.AutoConfig.for_model("mamba", **settings)
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("name", ["granite-moe", "qwen2-moe"])
def test_a_model_of_fused_experts_is_imported_and_counted(tmp_path, name):
    model = odd_models.build(name)
    model.save_pretrained(tmp_path / "hub", save_original_format=False)
    source = {"kind": "local", "path": str(tmp_path / "hub")}
    settings = {"source": source, "dtype": "float32", "task": "causal-lm", "tokenizer": False}
    (tmp_path / "dense").mkdir()
    record = import_stage.run(settings, {}, tmp_path / "dense", tiny.job())["weights"]
    expected = odd_models.kinds(name, model)
    sizes_of = {kind: sum(w.numel() for w in found.values()) for kind, found in expected.items()}
    assert record["prunable_parameters"] == sizes_of["linears"]
    assert record["router_share"] == sizes_of["routers"] / sum(sizes_of.values())
    assert record["parameters"] == sum(p.numel() for p in model.parameters())
    census = weight_census.take(tmp_path / "dense", [0.1])
    assert census.facts["parameters"] == record["parameters"]


def test_weights_of_dead_inputs_beyond_the_count_are_told(tmp_path):
    """Neurons behind a ReLU that few windows move: half go, or all of them."""
    parent = tiny.artifact(tmp_path / "parent", "opt")
    model = checkpoint.load(parent).model
    with torch.no_grad():
        for layer in model.model.decoder.layers:
            layer.fc1.bias.fill_(-1.0)
    parent = tmp_path / "shifted"
    parent.mkdir()
    tiny.finish(parent, checkpoint.write_plain(model, tiny.tokenizer(), parent, None).record)
    tokens = torch.randint(3, 40, (2, 6), generator=torch.Generator().manual_seed(0))
    made = tmp_path / "calibration"
    made.mkdir()
    save_file({"tokens": tokens}, made / "tokens.safetensors")
    norms = dense_norms(checkpoint.load(parent).model, tokens)
    save_file(norms, made / "input_norms.safetensors")
    found = {}
    for mode in ("counted", "all"):
        out = tmp_path / mode
        out.mkdir()
        settings = SPARSEGPT | HALF | {"nested": False, "dead_inputs": mode, "blocksize": 32}
        inputs = {"weights": parent, "calibration": made}
        found[mode] = prune.run(settings, inputs, out, tiny.job(scratch=tmp_path))
    counted, every = found["counted"], found["all"]
    assert counted["dead_weights_beyond"] == 0
    assert counted["weights"]["sparsity_prunable"] == 0.5
    beyond = every["weights"]["prunable_zeros"] - counted["weights"]["prunable_zeros"]
    assert every["dead_weights_beyond"] == beyond > 0
