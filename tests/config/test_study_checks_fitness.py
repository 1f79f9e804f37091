"""Steps and tasks that a model does not fit are told when a config is read."""

import copy
import json

import pytest

from tests.helpers import shipped
from tests.helpers.shipped import check, faults

BERT = {"source": "random:", "config": {"model_type": "bert"}, "task": "masked-lm"}
T5 = {"source": "random:", "config": {"model_type": "t5"}, "task": "seq2seq-lm"}
BARE = {**BERT, "task": "encoder"}


@pytest.fixture(scope="module")
def whole():
    return shipped.config()


@pytest.fixture
def raw(whole):
    """Return a config with one study of three models, each asked what fits it."""
    tree = copy.deepcopy(whole)
    tree["models"] |= {"my-bert": BERT, "my-t5": T5, "my-encoder": BARE}
    tree["finetune"] |= {
        "half": {"strategy": "quantize", "precision": "bfloat16"},
        "some": {"strategy": "lora", "rows": 4},
        "ranks": {"strategy": "full", "processes": 2},
    }
    tree["prune"]["gone"] = {"method": "magnitude", "pattern": "structured", "units": ["blocks"]}
    tree["prune"]["gone"]["sparsity"] = 0.5
    names = ["papers-roles", "numbers-en-de"]
    grid = {"model": ["my-bert", "my-t5", "my-encoder"], "prune": "dense", "finetune": "none"}
    tree["studies"] = {"a": {"dataset": "aclsum", "grid": grid, "evaluations": names}}
    return tree


def grid(raw, model, **axes):
    raw["studies"]["a"]["grid"] = {"model": model, **axes}
    fits = {"my-t5": ["numbers-en-de"]}.get(model, ["papers-roles"])
    raw["studies"]["a"]["evaluations"] = fits
    return raw


@pytest.mark.parametrize(
    ("model", "axes"),
    [
        ("my-bert", {"finetune": ["none", "some", "half"]}),
        ("my-t5", {"finetune": ["none", "some", "half"]}),
        ("my-encoder", {"finetune": ["none", "half", {"strategy": "lora", "loss_on": "label"}]}),
        ("my-bert", {"prune": "gone"}),
        ("my-encoder", {"prune": "gone"}),
    ],
)
def test_what_fits_is_accepted(raw, model, axes):
    check(grid(raw, model, **axes))


@pytest.mark.parametrize(
    ("model", "axes", "words"),
    [
        ("my-encoder", {"finetune": "some"}, ["'some' (finetune.some)", "loss_on: label"]),
        ("my-encoder", {"finetune": "ranks"}, ["processes is 2"]),
        ("my-bert", {"finetune": "ranks"}, ["processes is 2"]),
        ("my-t5", {"finetune": "ranks"}, ["processes is 2"]),
        ("my-t5", {"prune": "gone"}, ["(prune.gone)", "magnitude of whole units needs"]),
        (
            "my-bert",
            {"finetune": [{"strategy": "seq2seq", "rows": 4}]},
            ["(the grid)", "seq2seq needs an encoder-decoder", "lora"],
        ),
        (
            "my-t5",
            {"finetune": [{"strategy": "lora", "loss_on": "all"}]},
            ["learns responses alone"],
        ),
    ],
)
def test_a_step_that_a_model_does_not_fit_is_told_once(raw, model, axes, words):
    (found,) = faults(grid(raw, model, **axes))
    assert found.count("studies.a.grid") == 1 and f"model '{model}'" in found
    assert all(word in found for word in words), found


@pytest.mark.parametrize("passes", [True, False])
def test_decoding_is_timed_of_decoders_alone(raw, passes):
    raw["efficiency"]["mine"] = {"passes": passes}
    raw["studies"]["a"]["efficiency"] = "mine"
    if passes:
        check(raw)
        return
    found = faults(raw)
    assert len(found) == 3 and all("studies.a.efficiency" in text for text in found)
    assert all("needs a causal" in text and "passes: true" in text for text in found), found
    raw["studies"]["a"]["timed"] = [{"model": "my-t5"}]
    (found,) = faults(raw)
    assert "'my-t5'" in found


def test_all_misfits_are_told_at_once(raw):
    raw["studies"]["a"]["grid"]["finetune"] = ["some", "ranks"]
    assert len(faults(raw)) == 4


def test_an_excluded_cell_is_no_fault(raw):
    study = raw["studies"]["a"]
    study["grid"]["finetune"] = ["none", "some"]
    study["exclude"] = [{"model": "my-encoder", "finetune": "some"}]
    check(raw)


@pytest.mark.parametrize(
    ("kind", "task", "words"),
    [
        ("roberta", "causal-lm", ["task is causal-lm", "is_decoder"]),
        ("t5", "encoder", ["seq2seq-lm"]),
        ("opt", "masked-lm", ["causal-lm"]),
    ],
)
def test_a_task_that_a_config_cannot_have_is_told(raw, kind, task, words):
    mine = {"source": "random:", "config": {"model_type": kind}, "task": task}
    raw["models"]["mine"] = mine
    (found,) = faults(raw)
    assert "models.mine.task" in found and all(word in found for word in words), found


def test_the_config_of_a_local_folder_is_read(raw, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "electra", "architectures": ["ElectraForMaskedLM"]}))
    (tmp_path / "model.safetensors").touch()  # weights are read by the step
    raw["models"]["mine"] = {"source": str(tmp_path), "task": "masked-lm"}
    check(raw)
    raw["models"]["mine"]["task"] = "causal-lm"
    (found,) = faults(raw)
    assert "models.mine.task" in found and "model_type electra" in found
    # What cannot be read is told by the step that reads it.
    path.write_text("{")
    check(raw)


def test_the_config_of_a_hub_model_in_the_cache_is_read(raw, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    raw["models"]["mine"] = {"source": "hf:org/name", "task": "causal-lm"}
    check(raw)
    repo = tmp_path / "models--org--name"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs/main").write_text("abc")
    (repo / "snapshots/abc").mkdir(parents=True)
    (repo / "snapshots/abc/config.json").write_text(json.dumps({"model_type": "mbart50"}))
    check(raw)
    (repo / "snapshots/abc/config.json").write_text(json.dumps({"model_type": "camembert"}))
    (found,) = faults(raw)
    assert "models.mine.task" in found and "model_type camembert" in found
