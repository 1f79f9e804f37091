"""What tells the parameters of a model before it is there, and what that decides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.numpy import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from prunegrid.commands import cli_config
from prunegrid.graph.nodes import with_ancestors
from prunegrid.running import history, model_size, outlook, resources
from prunegrid.running.model_size import by_widths, parameters_of
from tests.helpers.runs import Run

WIDTHS = {"hidden_size": 64, "num_hidden_layers": 3, "intermediate_size": 128, "vocab_size": 500}


@pytest.fixture
def folder(tmp_path):
    """A model folder of 1,000,000 parameters whose path speaks of another size."""
    folder = tmp_path / "mine-7b"
    folder.mkdir()
    save_file({"w": numpy.zeros((1000, 1000), numpy.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **WIDTHS}))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_the_config_comes_first_then_the_files_then_the_name(folder):
    source = {"kind": "local", "path": str(folder)}
    assert parameters_of(source | {"parameters": 5}) == 5
    assert parameters_of(source, "model mine-3b") == 10**6
    gone = {"kind": "local", "path": str(folder.parent / "gone")}
    assert parameters_of(gone, "model mine-3b") == 3 * 10**9
    assert parameters_of(gone) is None


def test_a_model_in_the_hubs_cache_is_looked_at(folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(folder.parent / "hub"))
    source = {"kind": "hf", "repo": "org/mine", "revision": "main"}
    assert parameters_of(source) is None
    place = folder.parent / "hub/models--org--mine/snapshots/main"
    place.parent.mkdir(parents=True)
    folder.rename(place)
    model_size.weight_headers.parameters_of.cache_clear()
    assert parameters_of(source) == 10**6


def test_without_weights_and_name_the_widths_tell(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(WIDTHS))
    source = {"kind": "local", "path": str(tmp_path)}
    assert parameters_of(source) == by_widths(WIDTHS)
    for config in ("{}", "[]", "{", '{"hidden_size": "wide", "num_hidden_layers": 2}'):
        (tmp_path / "config.json").write_text(config)
        assert parameters_of(source) is None


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "gpt_neox"])
def test_widths_tell_about_the_size(kind):
    own = {"gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 32}}
    own["opt"] = {"ffn_dim": 128, "num_attention_heads": 4, "max_position_embeddings": 32}
    config = AutoConfig.for_model(kind, **WIDTHS, **own.get(kind, {"num_attention_heads": 4}))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    counted = sum(one.numel() for one in model.parameters())
    assert 0.6 < by_widths(config.to_dict()) / counted < 1.7


@pytest.fixture
def graph(folder, tmp_path, monkeypatch):
    """Return a function that gives the graph of a study of a user's own small model."""
    run = Run.fresh(tmp_path / "run")
    monkeypatch.chdir(run.folder)
    model = {"source": str(folder), "task": "causal-lm"}
    run.configure(lambda tree: tree["models"].update({"tiny-llama": model}))
    return lambda: cli_config.graph([Path("config.yaml")], (), "one")


def test_a_small_model_of_ones_own_takes_a_minute_and_not_hours(graph, monkeypatch):
    todo = with_ancestors(graph().study_leaves("one"))
    assert outlook.expected(todo, history.Experience([])).together(2) < 120
    assert all(resources.planned_step(node)[1] for node in todo)
    monkeypatch.setattr(model_size.weight_headers, "parameters_of", lambda place: 10**9)
    assert outlook.expected(todo, history.Experience([])).together(2) > 300  # on a few rows


def test_the_size_is_in_no_key(graph, monkeypatch):
    before = [node.key for node in graph().all_nodes()]
    monkeypatch.setattr(model_size.weight_headers, "parameters_of", lambda place: 10**9)
    assert [node.key for node in graph().all_nodes()] == before
