"""The stages `calibration` and `prune` on a tiny model, through the files that they leave."""

import json

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.models import blocks, checkpoint
from prunegrid.pruning.calibration_windows import draw_windows
from prunegrid.pruning.dense_statistics import dense_norms
from prunegrid.pruning.layerwise import prune_model
from prunegrid.pruning.recipe import Recipe
from prunegrid.stages import calibration
from tests.helpers.pruning_jobs import (
    HALF,
    SAMPLES,
    SPARSEGPT,
    WANDA,
    Job,
    record_of,
    run_prune,
    tiny_model,
    write_artifact,
    write_model,
)
from tests.helpers.pruning_jobs import parents as parents  # a fixture

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def calibrated(parents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    return write_artifact(
        folder / "calibration", lambda out: calibration.run(SAMPLES, parents, out, Job(folder))
    )


def test_calibration_artifact(parents, calibrated):
    tokens = load_file(calibrated / "tokens.safetensors")["tokens"]
    assert tokens.shape == (4, 32) and tokens.dtype == torch.int64
    loaded = checkpoint.load(parents["model"])
    texts = pq.read_table(parents["data"] / "train.parquet")["text"].to_pylist()
    for window in tokens:
        assert any(loaded.tokenizer.decode(window) in text for text in texts)
    norms = load_file(calibrated / "input_norms.safetensors")
    assert norms.keys() == blocks.prunable(loaded.model).keys()
    seen = {}
    for name, module in blocks.prunable(loaded.model).items():
        module.register_forward_pre_hook(lambda _m, args, n=name: seen.update({n: args[0]}))
    with torch.no_grad():
        loaded.model(tokens)
    for name, inputs in seen.items():
        expected = inputs.double().square().mean((0, 1))
        assert torch.allclose(norms[name].double(), expected, rtol=1e-4), name
    record = record_of(calibrated)
    assert (record["samples"], record["length"]) == (4, 32)
    assert len(record["tokens_sha256"]) == 64


def test_calibration_is_the_same_bytes_again(parents, calibrated, tmp_path):
    calibration.run(SAMPLES, parents, tmp_path, Job(tmp_path))
    for name in ("tokens.safetensors", "input_norms.safetensors"):
        assert (tmp_path / name).read_bytes() == (calibrated / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"length": 100}, "no document has more than 100 tokens.*join: true"),
        ({"length": 129}, "at most the model's 128 positions"),
        ({"split": "trian"}, "did you mean 'train'"),
        ({"column": "txt"}, "did you mean 'text'"),
    ],
)
def test_calibration_refuses(parents, tmp_path, change, said):
    with pytest.raises(PrunegridError, match=said):
        calibration.run({**SAMPLES, **change}, parents, tmp_path, Job(tmp_path))


def test_joined_documents_give_windows_longer_than_any_of_them():
    texts = ["ab", "cd", "ef", "gh"]
    windows = draw_windows(texts, lambda t: list(t.encode()), 3, 9, 1, "here", join=True)
    assert windows.shape == (3, 9)
    assert b"\n\n" in bytes(windows[0].tolist())
    with pytest.raises(PrunegridError, match="all documents together have 16 tokens"):
        draw_windows(texts, lambda t: list(t.encode()), 3, 16, 1, "here", join=True)


def test_windows_depend_on_the_seed_and_use_all_long_documents():
    texts = [str(i) * 20 for i in range(5)] + ["x"]
    draws = [draw_windows(texts, lambda t: list(t.encode()), 40, 5, s, "here") for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert set(draws[0][:, 0].tolist()) == {ord(str(i)) for i in range(5)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "settings",
    [
        WANDA,
        {**WANDA, **HALF},
        {**WANDA, "propagation": "single-pass"},
        {**WANDA, "propagation": "dense"},
        SPARSEGPT,
        {**SPARSEGPT, **HALF},
        {**SPARSEGPT, "propagation": "single-pass"},
        {**SPARSEGPT, "propagation": "dense"},
        {**WANDA, "update": "sparsegpt"},
        {**WANDA, **HALF, "update": "least_squares"},
        {**WANDA, "method": "ria", **HALF},
        {**WANDA, "method": "alps"},
        {**WANDA, "method": "alps", **HALF, "allocation": "owl", "update": "least_squares"},
        {**WANDA, "method": "admm", **HALF, "update": "none"},
        {**WANDA, **HALF, "allocation": "owl"},
        {**WANDA, **HALF, "method": "magnitude", "allocation": "error"},
        {**WANDA, **HALF, "method": "magnitude", "scope": "model"},
        {**WANDA, "method": "magnitude", **HALF, "scope": "row"},
        {**WANDA, "method": "random"},
    ],
    ids=lambda s: "-".join(str(value) for value in s.values()),
)
def test_prune_artifact(parents, calibrated, tmp_path, settings, dtype):
    weights = parents["model"]
    if dtype is torch.bfloat16:
        weights = write_model(tmp_path / "model", tiny_model(dtype))
    out = run_prune(tmp_path / "pruned", settings, weights, calibrated)
    # Unmodified transformers loads the folder, and finds the pattern in it.
    model = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    assert model.dtype == dtype
    assert model.lm_head.weight is model.model.embed_tokens.weight
    report = json.loads((out / "prune.json").read_text())
    found = blocks.prunable(model)
    assert report.keys() == found.keys()
    total = zeros = 0
    for name, module in found.items():
        weight = blocks.oriented(module)
        assert report[name]["zeros"] == int((weight == 0).sum())
        if settings["method"] not in ("magnitude", "random"):  # it saw the inputs
            assert 0 < report[name]["output_error"] < 1
        if settings.get("allocation", "uniform") == "uniform" and "scope" not in settings:
            assert report[name]["sparsity"] == 0.5
        total, zeros = total + weight.numel(), zeros + report[name]["zeros"]
        if settings["pattern"] == "2:4":
            assert ((weight != 0).reshape(-1, 4).sum(1) == 2).all()
    record = record_of(out)
    assert record["weights"]["prunable_zeros"] == zeros
    assert record["weights"]["sparsity_prunable"] == zeros / total == 0.5
    assert record["weights"]["pattern"] == settings["pattern"]
    assert checkpoint.load(out).record == record["weights"]


def test_same_bytes_again(parents, calibrated, tmp_path):
    for number in (1, 2):
        run_prune(tmp_path / str(number), SPARSEGPT, parents["model"], calibrated)
    first, second = (artifact_folder.list_files(tmp_path / str(number)) for number in (1, 2))
    assert first == second


def test_a_chain_prunes_again_to_the_exact_count(parents, calibrated, tmp_path):
    once = run_prune(tmp_path / "once", WANDA, parents["model"], calibrated)
    for method in ("magnitude", "wanda", "sparsegpt"):
        base = SPARSEGPT if method == "sparsegpt" else {**WANDA, "method": method}
        settings = {**base, "pattern": "unstructured", "sparsity": 0.75}
        again = run_prune(tmp_path / method, settings, once, calibrated)
        assert record_of(again)["weights"]["sparsity_prunable"] == 0.75


def test_swapped_weights_are_noticed(parents, calibrated, tmp_path):
    other = write_model(tmp_path / "other", tiny_model())
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["record"]["weights"]["sha256"] = "0" * 64
    file_io.write_json(other / "manifest.json", manifest)
    with pytest.raises(AttestationError, match="sha256"):
        run_prune(tmp_path / "pruned", WANDA, other, calibrated)
    assert not (tmp_path / "pruned").exists()


@pytest.mark.parametrize(
    ("settings", "calibration_given", "said"),
    [
        (WANDA, False, "needs calibration samples"),
        ({**WANDA, "method": "magnitude", "update": "least_squares"}, False, "needs calibration"),
        ({**WANDA, **HALF, "scope": "model"}, True, "no scope 'model'"),
        ({**WANDA, "method": "wander"}, True, "did you mean 'wanda'"),
        ({**WANDA, "pattern": "2:5"}, True, "5 does not divide"),
        ({**WANDA, "alpha": 1}, True, "no setting 'alpha'"),
        ({**WANDA, "propagation": "parallel"}, True, "no propagation 'parallel'"),
    ],
)
def test_prune_refuses(parents, calibrated, tmp_path, settings, calibration_given, said):
    with pytest.raises(PrunegridError, match=said):
        given = calibrated if calibration_given else None
        run_prune(tmp_path / "pruned", settings, parents["model"], given)
    assert not (tmp_path / "pruned").exists()


def test_dense_propagation_uses_the_norms_of_the_dense_model(parents, calibrated, tmp_path):
    out = run_prune(
        tmp_path / "pruned", {**WANDA, "propagation": "dense"}, parents["model"], calibrated
    )
    tokens = load_file(calibrated / "tokens.safetensors")["tokens"]
    model = checkpoint.load(parents["model"]).model
    norms = dense_norms(model, tokens)
    prune_model(model, Recipe("wanda", "2:4"), norms=norms, propagation="dense")
    saved = checkpoint.load(out).tensors
    assert all(
        torch.equal(value, saved[name])
        for name, value in model.state_dict().items()
        if name in saved
    )
