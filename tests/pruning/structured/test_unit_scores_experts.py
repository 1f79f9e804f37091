"""Scores of blocks with fused experts, and the removal of such blocks."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from prunegrid.models.blocks import prunable
from prunegrid.pruning.structured.unit_scores import gradients
from tests.helpers import expert_models, shrunken

pytestmark = pytest.mark.model

KINDS = pytest.mark.parametrize("kind", ["mixtral", "gpt_oss"])


@KINDS
def test_gradients_of_an_expert_are_its_part_of_the_tensors(kind):
    model, tokens = expert_models.build(kind), shrunken.windows(3)
    found = gradients(model, prunable(model), tokens)
    for window in tokens:
        logits = model(window[None], use_cache=False).logits[0, :-1]
        (cross_entropy(logits, window[1:]) / len(tokens)).backward()
    for name, holder in expert_models.holders(model).items():
        for tensor in expert_models.TENSORS:
            for expert, expected in enumerate(getattr(holder, tensor).grad):
                expected = expected.t() if kind in expert_models.FLIPPED else expected
                part = found[f"{name}.{tensor}.{expert}"]
                scale = float(expected.abs().max().clamp(min=1e-6))
                assert float((part - expected).abs().max()) <= 1e-4 * scale
    plain = "model.layers.0.self_attn.q_proj"
    expected = model.get_submodule(plain).weight.grad
    assert torch.allclose(found[plain], expected, rtol=1e-3, atol=1e-6)


@KINDS
@pytest.mark.parametrize("method", ["magnitude", "wanda", "taylor"])
def test_a_block_of_experts_goes_as_a_whole(tmp_path, kind, method):
    model = expert_models.build(kind, num_hidden_layers=3)
    weights = shrunken.artifact(tmp_path / "w", model)
    tokens = shrunken.windows()
    record, report = shrunken.shrink(
        tmp_path / "out", weights, tokens, method=method, units=["blocks"], sparsity=0.3
    )
    gone = [name for name, kinds in report["blocks"].items() if kinds["blocks"]["removed"]]
    assert len(gone) == record["removed"]["blocks"] == 1
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    stay = [i for i in range(3) if f"model.layers.{i}" not in gone]
    before = model.state_dict()
    for place, index in enumerate(stay):
        for tensor in expert_models.TENSORS:
            name = f"mlp.experts.{tensor}"
            now = small.state_dict()[f"model.layers.{place}.{name}"]
            assert torch.equal(now, before[f"model.layers.{index}.{name}"])
