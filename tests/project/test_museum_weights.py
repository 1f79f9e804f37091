"""Museum of faults, the models' wing: what public notebooks did to weights."""

from __future__ import annotations

import shutil

import pandas
import pytest
import torch
from safetensors.torch import load_file, save_file

from prunegrid.artifacts import artifact_folder
from prunegrid.commands import verify
from prunegrid.common import file_io
from prunegrid.evaluation import perplexity
from prunegrid.finetuning import context
from prunegrid.finetuning.training import sparsity
from prunegrid.models import (
    attestation,
    blocks,
    checkpoint,
    loading,
    masked_lora,
    open_checkpoint,
    parameter_kinds,
    weight_census,
    weights_record,
)
from prunegrid.stages import census as census_stage
from prunegrid.stages import finetune, predictions, prune
from prunegrid.stages import perplexity as perplexity_stage
from tests.helpers import tiny
from tests.helpers.museum import stopped_by
from tests.helpers.tuning import tune_pruned

pytestmark = pytest.mark.model


def test_dense_weights_in_the_place_of_pruned_ones(tmp_path):
    pruned = tiny.artifact(tmp_path / "pruned", "opt", "2:4")
    dense = tiny.artifact(tmp_path / "dense", "opt")
    shutil.copy(dense / "model.safetensors", pruned / "model.safetensors")
    with stopped_by(attestation.require_same, "weights in memory have sha256"):
        open_checkpoint.load(pruned)


def test_an_adapter_on_the_dense_base(tmp_path):
    """The base is swapped for that of another tuning, of the dense model; the adapter is kept."""
    _, pruned = tune_pruned(tmp_path, "qlora")
    dense = tmp_path / "of-dense"
    dense.mkdir()
    parents = {"weights": tiny.artifact(tmp_path / "d", "llama"), "data": tmp_path / "data"}
    finetune.run(tiny.finetune("qlora", epochs=1), parents, dense, tiny.job())
    shutil.rmtree(pruned / "base")
    shutil.copytree(dense / "base", pruned / "base")
    with stopped_by(attestation.require_same, "weights in memory have"):
        open_checkpoint.load(pruned)


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_masks_lost_in_tuning(tmp_path, monkeypatch, strategy):
    monkeypatch.setattr(sparsity, "masker", lambda model, masks: (None, None))
    wrap = masked_lora.wrap
    monkeypatch.setattr(masked_lora, "wrap", lambda m, n, masks, s: wrap(m, n, {}, s))
    with stopped_by(finetune.require_kept, "filled .* pruned places"):
        tune_pruned(tmp_path, strategy)


def test_only_gradients_masked(tmp_path, monkeypatch):
    """Gradients of the first step leak into Adam's moments; masked later ones do not hold them."""
    masker, steps = sparsity.masker, []

    def leaky(model, masks):
        mask_weights, mask_gradients = masker(model, masks)

        def after_step():
            steps.append(1)
            if len(steps) == 1:
                mask_weights()

        return after_step, lambda: mask_gradients() if steps else None

    monkeypatch.setattr(sparsity, "masker", leaky)
    with stopped_by(finetune.require_kept, "filled .* pruned places"):
        tune_pruned(tmp_path, "full")
    assert len(steps) > 1


def test_a_pattern_that_is_claimed_but_not_there(tmp_path, monkeypatch):
    """Half of each row goes, wherever the smallest lie: 50%, and no 2:4."""
    parent = tiny.artifact(tmp_path / "dense", "llama")
    (tmp_path / "out").mkdir()
    settings = {"method": "magnitude", "pattern": "2:4", "sparsity": None, "scope": None}
    job = tiny.job(scratch=tmp_path / "scratch")
    monkeypatch.setattr(prune, "prune_checkpoint", half_of_each_row)
    with stopped_by(prune.require_pattern, "keep more than 2:4 says"):
        prune.run(settings, {"weights": parent}, tmp_path / "out", job)


def half_of_each_row(parent, recipe, out, inputs):
    """Do what a method does that takes no notice of the pattern."""
    tiny.prune_(parent.model, "unstructured")
    zeros = {
        name: {"zeros": int((blocks.oriented(m) == 0).sum())}
        for name, m in blocks.prunable(parent.model).items()
    }
    return zeros, checkpoint.write_plain(parent.model, parent.tokenizer, out, recipe.pattern).record


def test_sizes_counted_twice(tmp_path):
    """A cache's links beside its blobs: the same weights under two names."""
    folder = tiny.artifact(tmp_path / "m", "llama", "2:4")
    once = checkpoint.file_bytes(folder)
    (folder / "model-copy.safetensors").symlink_to(folder / "model.safetensors")
    assert checkpoint.file_bytes(folder) == 2 * once
    with stopped_by(weights_record.require_size, "each counted once"):
        checkpoint.load(folder, attest=False)


def test_nonzeros_by_arithmetic(tmp_path):
    """Half of all parameters, embeddings too, instead of a count: the load and the check see it."""
    folder = tiny.artifact(tmp_path / "m", "llama", "2:4")
    record = checkpoint.load(folder).record
    counted = record["nonzero_parameters"]
    record["nonzero_parameters"] = record["parameters"] // 2
    tiny.finish(folder, record)
    with stopped_by(attestation.require_same, f"nonzero_parameters = {counted}"):
        checkpoint.load(folder)
    row = pandas.Series(record | {"weights_sha256": record["sha256"]})
    manifest = file_io.read_json(folder / "manifest.json")
    manifest |= {"key": "k", "files": artifact_folder.list_files(folder)}
    manifest["content"] = artifact_folder.content_digest(manifest["files"])
    file_io.write_json(folder / "manifest.json", manifest)
    (told,) = verify.weight_faults({"chain": [{"path": folder, "key": "k"}]}, row)
    assert f"nonzero_parameters is {counted}, the row says {record['nonzero_parameters']}" in told


def test_references_cut_to_fit(tmp_path, monkeypatch):
    folder = tiny.artifact(tmp_path / "w", "llama")
    parents = {"weights": folder, "data": tiny.data(tmp_path / "data", rows=3)}
    for name, limit in (("asked", 2), ("whole", None)):
        (tmp_path / name).mkdir()
        settings = tiny.generation(reference_tokens=limit)
        record = predictions.run(settings, parents, tmp_path / name, tiny.job())
        assert record["references_cut"] == (0 if limit is None else 3)
    cut = predictions.prompts.Prompter.cut_tokens
    monkeypatch.setattr(
        predictions.prompts.Prompter, "cut_tokens", lambda self, text, limit: cut(self, text, 2)
    )
    (tmp_path / "out").mkdir()
    with stopped_by(predictions.require_whole, "the reference of d0 is not the data set's"):
        predictions.run(tiny.generation(), parents, tmp_path / "out", tiny.job())


def test_an_adapter_on_layers_that_are_not_there(tmp_path):
    with stopped_by(context.Context.targets, "'dense'"):
        tune_pruned(tmp_path, "lora", targets=["q_proj", "dense"])


def test_weights_that_overflowed(tmp_path):
    model = tiny.model("llama")
    with torch.no_grad():
        model.model.norm.weight[0] = float("inf")
    with stopped_by(weights_record.measure, "NaN or infinite"):
        checkpoint.write_plain(model, None, tmp_path, None)


def test_a_perplexity_of_infinite_losses():
    model = tiny.model("llama")
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    plan = perplexity.plan_windows(16, "nonoverlap", 8, None, None)
    with stopped_by(perplexity.window_losses, "the loss of window 0 is nan"):
        perplexity.window_losses(model, list(range(16)), plan, "here")


def test_a_model_that_says_nothing_has_the_perplexity_of_chance(tmp_path):
    """All logits equal: the measured perplexity is the level of chance that the record gives."""
    model = tiny.model("llama")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    losses = perplexity.window_losses(
        model, list(range(20)), perplexity.plan_windows(20, "nonoverlap", 10, None, None), "here"
    )
    columns = {"tokens": [9, 9], "units": [9, 9]}
    chance = perplexity_stage.chance(model, columns)
    assert chance == pytest.approx(tiny.VOCABULARY)
    assert torch.tensor(sum(losses) / 18).exp().item() == pytest.approx(chance)
    words = {"tokens": [9, 9], "units": [6, 6]}
    assert perplexity_stage.chance(model, words) == pytest.approx(tiny.VOCABULARY**1.5)


def test_masks_of_attention_counted_as_weights(tmp_path, monkeypatch):
    """A GPT-2 whose file holds a causal mask, and a census that takes all that is in it."""
    folder, name = tiny.artifact(tmp_path / "m", "gpt2"), "transformer.h.0.attn.mask"
    mask = torch.tril(torch.ones(64, 64))
    tensors = {**load_file(folder / "model.safetensors"), name: mask}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    record = file_io.read_json(folder / artifact_folder.MANIFEST)["record"]["weights"]
    tiny.finish(folder, record | {"sha256": checkpoint.file_weights_sha256(folder)})
    skeleton, places = loading.skeleton, parameter_kinds.places

    def with_mask(place):
        made = skeleton(place)
        made.transformer.h[0].attn.register_buffer("mask", mask)
        return made

    monkeypatch.setattr(loading, "skeleton", with_mask)
    (tmp_path / "right").mkdir()
    made = census_stage.run({"edges": [0.1]}, {"weights": folder}, tmp_path / "right", tiny.job())
    assert made["weights"]["parameters"] == record["parameters"]
    everything = {name: parameter_kinds.Place("other", "transformer.h", 0, 2)}
    monkeypatch.setattr(weight_census, "places", lambda *given: {**places(*given), **everything})
    with stopped_by(attestation.require_same, "parameters = "):
        census_stage.run({"edges": [0.1]}, {"weights": folder}, tmp_path, tiny.job())
