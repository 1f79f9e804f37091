"""Tuning of pruned mixtures of experts: zeros stay, and experts have no adapters."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from prunegrid.evaluation import sizes
from prunegrid.models import blocks, checkpoint, open_checkpoint
from prunegrid.models.packed import plain_tensors
from prunegrid.stages import transform
from tests.helpers import expert_models, tiny
from tests.helpers.tuning import tune

pytestmark = pytest.mark.model

KINDS = pytest.mark.parametrize("kind", ["mixtral", "gpt_oss"])


def pruned(folder, kind):
    """Return a 2:4 artifact; the zeros of experts lie along what their matrices read."""
    model = expert_models.build(kind)
    matrices = [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)]
    kept = [matrix for matrix in matrices if matrix is not model.lm_head.weight]
    with torch.no_grad():
        for weight in [*kept, *expert_models.weights(model, kind).values()]:
            parts = weight.reshape(len(weight), -1, 4)
            lowest = parts.abs().argsort(dim=-1)[..., :2]
            weight.copy_(parts.scatter(-1, lowest, 0.0).reshape(weight.shape))
    folder.mkdir(parents=True)
    saved = checkpoint.write_plain(model, tiny.tokenizer(), folder, "2:4")
    assert saved.record["nm_valid"] is True
    tiny.finish(folder, saved.record)
    return folder


@KINDS
@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_tuning_keeps_the_zeros_of_experts(tmp_path, kind, strategy):
    parent = pruned(tmp_path / "w", kind)
    record, folder = tune(tmp_path, parent, strategy)
    assert record["train"]["zeros_filled"] == 0
    before, after = (AutoModelForCausalLM.from_pretrained(place) for place in (parent, folder))
    old, new = (expert_models.weights(model, kind) for model in (before, after))
    for name, weight in old.items():
        assert bool((new[name][weight == 0] == 0).all()), name
    moved = any(not torch.equal(old[name], new[name]) for name in old)
    assert moved == (strategy == "full")
    attention = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(before.state_dict()[attention], after.state_dict()[attention])
    assert record["weights"]["nm_valid"] is True


@KINDS
def test_an_adapter_beside_the_base_leaves_experts_as_they_are(tmp_path, kind):
    parent = pruned(tmp_path / "w", kind)
    record, folder = tune(tmp_path, parent, "lora", adapter="unmerged")
    loaded = open_checkpoint.load(folder)
    assert loaded.record == record["weights"]
    prunable = blocks.prunable(expert_models.build(kind))
    counts = [blocks.oriented(linear).numel() for linear in prunable.values()]
    assert loaded.record["prunable_parameters"] == sum(counts)
    found = sizes.measure(plain_tensors.of(loaded), "2:4", tmp_path, "test", gzipped=False)
    assert found["bytes"]["packed"] < found["bytes"]["dense_float32"]


@KINDS
def test_sizes_count_each_expert_as_a_linear(tmp_path, kind):
    parent = pruned(tmp_path / "w", kind)
    plain = plain_tensors.of(open_checkpoint.load(parent))
    found = sizes.measure(plain, "2:4", tmp_path, "test", gzipped=False)
    experts = expert_models.weights(AutoModelForCausalLM.from_pretrained(parent), kind)
    assert found["packed_as"]["nm"] >= 4  # the tensors of two layers, whole
    rows = sum(len(weight) for weight in experts.values())
    count = sum(weight.numel() for weight in experts.values())
    bare = dict.fromkeys(
        name for name in plain.linears if name.rpartition(".")[2] in expert_models.TENSORS
    )
    assert len(bare) == 4
    rest = plain_tensors.Plain(
        {n: t for n, t in plain.tensors.items() if n not in bare},
        {n: flip for n, flip in plain.linears.items() if n not in bare},
    )
    less = sizes.measure(rest, "2:4", tmp_path, "test", gzipped=False)["bytes"]
    # A byte a weight and a float32 a row; the header's lines aside.
    assert abs(found["bytes"]["int8"] - less["int8"] - count - 4 * rows) < 2000


@KINDS
@pytest.mark.parametrize("precision", ["nf4", "int8"])
def test_quantizing_leaves_experts_plain(tmp_path, kind, precision):
    parent = pruned(tmp_path / "w", kind)
    settings = {"strategy": "quantize", "precision": precision, "double_quant": True}
    (tmp_path / "out").mkdir()
    record = transform.run(settings, {"weights": parent}, tmp_path / "out", tiny.job())
    tiny.finish(tmp_path / "out", record["weights"])
    loaded = open_checkpoint.load(tmp_path / "out")
    assert loaded.record["precision"] == precision and loaded.record["nm_valid"] is True
    before = AutoModelForCausalLM.from_pretrained(parent)
    old, new = (expert_models.weights(model, kind) for model in (before, loaded.model))
    assert all(torch.equal(new[name], weight) for name, weight in old.items())
    assert loaded.record["prunable_parameters"] == sum(
        blocks.oriented(linear).numel() for linear in blocks.prunable(before).values()
    )


@KINDS
def test_adapters_over_packed_weights_leave_experts_as_they_are(tmp_path, kind):
    parent = pruned(tmp_path / "w", kind)
    record, folder = tune(tmp_path, parent, "qlora")
    loaded = open_checkpoint.load(folder)
    assert loaded.record == record["weights"] and record["train"]["zeros_filled"] == 0
    inner = (
        loaded.model.get_base_model() if hasattr(loaded.model, "get_base_model") else loaded.model
    )
    old = expert_models.weights(AutoModelForCausalLM.from_pretrained(parent), kind)
    assert all(torch.equal(expert_models.weights(inner, kind)[n], w) for n, w in old.items())
