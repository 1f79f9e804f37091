"""The stages on mixtures of experts: what is recorded of experts, and the same bytes by block."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from prunegrid.models import checkpoint
from prunegrid.stages import calibration, hessians, prune
from tests.helpers import expert_models
from tests.helpers.pruning_jobs import (
    BY_BLOCK,
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

pytestmark = pytest.mark.model

HALF = {**WANDA, "pattern": "unstructured", "sparsity": 0.5}
MAGNITUDE = {**WANDA, "method": "magnitude"}


@pytest.fixture(scope="module", params=["mixtral", "gpt_oss"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def dense(kind, tmp_path_factory):
    """An artifact of a model whose experts 2 and 3 no token reaches."""
    model = expert_models.build(
        kind, vocab_size=260, num_experts_per_tok=1, max_position_embeddings=128
    )
    expert_models.leave_unreached(model)
    return write_model(tmp_path_factory.mktemp(kind) / "model", model)


@pytest.fixture(scope="module")
def calibrated(dense, parents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    sources = {"model": dense, "data": parents["data"]}
    return write_artifact(
        folder / "out", lambda out: calibration.run(SAMPLES, sources, out, Job(folder))
    )


@pytest.fixture(scope="module")
def given(kind, dense, calibrated):
    """Name → what each expert's matrix is given, by a loop over experts."""
    model = AutoModelForCausalLM.from_pretrained(dense).eval()
    tokens = load_file(calibrated / "tokens.safetensors")["tokens"]
    return expert_models.inputs_of(model, kind, tokens)


@pytest.mark.parametrize("propagation", ["sequential", "dense"])
def test_the_record_tells_which_experts_few_tokens_reached(
    tmp_path, dense, calibrated, given, propagation, caplog
):
    folder = run_prune(tmp_path / "w", {**WANDA, "propagation": propagation}, dense, calibrated)
    record, report = record_of(folder), json.loads((folder / "prune.json").read_text())
    unreached = {name: 0 for name, inputs in given.items() if not len(inputs)}
    assert record["experts"]["unreached"] == unreached
    assert {name.rpartition(".")[2] for name in unreached} == {"2", "3"}
    assert "no token reached" in caplog.text
    first = [name for name in given if name.startswith("model.layers.0.")]
    for name in first if propagation == "sequential" else given:
        assert report[name]["tokens"] == len(given[name])
        assert bool(report[name].get("fallbacks")) == (not len(given[name]))
        few = 0 < len(given[name]) < given[name].shape[1]
        assert (name in record["experts"]["few"]) == few
    assert record["weights"]["nm_valid"] is True


def test_experts_with_fewer_tokens_than_inputs_are_told(tmp_path, dense, parents, caplog):
    samples = {**SAMPLES, "samples": 1, "length": 8}
    sources = {"model": dense, "data": parents["data"]}
    few = write_artifact(
        tmp_path / "c", lambda out: calibration.run(samples, sources, out, Job(tmp_path))
    )
    record = record_of(run_prune(tmp_path / "w", WANDA, dense, few))
    assert record["experts"]["few"]
    assert all(0 < count <= 8 for count in record["experts"]["few"].values())
    assert "fewer tokens than inputs" in caplog.text


def test_nothing_is_told_of_experts_where_inputs_are_not_needed(tmp_path, dense):
    assert "experts" not in record_of(run_prune(tmp_path / "w", MAGNITUDE, dense))


@pytest.mark.parametrize(
    "settings",
    [
        MAGNITUDE,
        {**HALF, "method": "magnitude", "scope": "model"},
        {**HALF, "allocation": "owl"},
        {**HALF, "allocation": "error", "method": "magnitude"},
        {**WANDA, "propagation": "dense"},
        {**SPARSEGPT, "propagation": "single-pass"},
        {**SPARSEGPT, "propagation": "dense"},
    ],
    ids=lambda s: "-".join(str(value) for value in s.values()),
)
def test_by_block_gives_the_same_bytes(tmp_path, kind, dense, calibrated, settings):
    found = []
    for memory in (Job("").memory, BY_BLOCK):
        place = tmp_path / memory["model"]
        job = Job(place / "scratch", memory=memory)
        sources = {"weights": dense, "calibration": calibrated}
        if settings["method"] == "sparsegpt" and settings["propagation"] == "dense":
            parts = {"model": dense, "calibration": calibrated}
            sources["hessians"] = write_artifact(
                place / "h", lambda out, p=parts, j=job: hessians.run({}, p, out, j)
            )
        found.append(
            write_artifact(
                place / "w", lambda out, s=sources, j=job: prune.run(settings, s, out, j)
            )
        )
    whole, part = (record_of(folder)["weights"] for folder in found)
    assert whole["sha256"] == part["sha256"] == checkpoint.file_weights_sha256(found[1])
    assert whole["prunable_zeros"] == part["prunable_zeros"]
    # Plain transformers reads the shards, and counts what was pruned.
    model = AutoModelForCausalLM.from_pretrained(found[1])
    zeros = sum(int((w == 0).sum()) for w in expert_models.weights(model, kind).values())
    report = json.loads((found[1] / "prune.json").read_text())
    names = expert_models.weights(model, kind).keys()
    assert zeros == sum(report[name]["zeros"] for name in names)
    with torch.no_grad():
        assert torch.isfinite(model(torch.arange(2, 10)[None]).logits).all()
