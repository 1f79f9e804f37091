"""Adapters and packed weights on models that peft or bitsandbytes would not take by name."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from prunegrid.common.errors import PrunegridError
from prunegrid.models import blocks, checkpoint, masked_lora, open_checkpoint, quantized
from tests.helpers import tiny
from tests.helpers.tuning import change, tune

pytestmark = pytest.mark.model

SMALL = {
    **{"vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1},
}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
LATENT = {
    **{"q_lora_rank": 32, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8},
    **{"v_head_dim": 16, "n_routed_experts": 4, "moe_intermediate_size": 32, "n_group": 1},
    **{"topk_group": 1, "num_experts_per_tok": 2, "n_shared_experts": 1, "num_key_value_heads": 4},
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
MODELS = {
    # peft refuses their out_proj.
    "mamba": {"state_size": 8, "time_step_rank": 8},
    "falcon_mamba": {"state_size": 8, "time_step_rank": 8},
    # peft takes gate_proj, up_proj and down_proj for fused experts.
    "deepseek_v2": HEADS | LATENT | {"first_k_dense_replace": 2, "topk_method": "greedy"},
    "qwen3_moe": HEADS | EXPERTS | {"mlp_only_layers": [0, 1], "head_dim": 16},
    # Its linears are of a class of its own.
    "falcon": {"num_attention_heads": 4, "ffn_hidden_size": 128},
}
# The linears that a model reads by itself.
READ = {"mamba": "dt_proj", "falcon_mamba": "dt_proj"}


def artifact(folder, kind, pattern="2:4", **settings):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SMALL | MODELS[kind] | settings)
    made = AutoModelForCausalLM.from_config(config).eval()
    tiny.prune_(made, pattern)
    folder.mkdir(parents=True)
    record = checkpoint.write_plain(made, tiny.tokenizer(), folder, pattern).record
    tiny.finish(folder, record)
    return folder


def ends(names):
    return {name.rpartition(".")[2] for name in names}


@pytest.mark.parametrize("kind", MODELS)
def test_lora_is_on_every_linear_that_it_can_stand_in_for(tmp_path, kind):
    parent = artifact(tmp_path / "parent", kind)
    record, out = tune(tmp_path, parent, "lora", learning_rate=2e-2)
    left_out = record["train"].get("targets_left_out", {})
    assert ends(left_out) == ({READ[kind]} if kind in READ else set())
    assert record["weights"]["nm_valid"] is True and record["train"]["zeros_filled"] == 0
    before, after = (checkpoint.read_model(folder) for folder in (parent, out))
    for name, linear in blocks.prunable(before).items():
        old, new = blocks.oriented(linear), blocks.oriented(after.get_submodule(name))
        assert torch.equal(old == 0, new == 0), name
        assert torch.equal(old, new) == (name in left_out), name


@pytest.mark.parametrize("kind", ["mamba", "deepseek_v2"])
def test_an_unmerged_adapter_loads_again(tmp_path, kind):
    parent = artifact(tmp_path / "parent", kind)
    record, out = tune(tmp_path, parent, "lora", adapter="unmerged", max_steps=2)
    loaded = open_checkpoint.load(out)
    assert loaded.record == record["weights"]
    left_out = record["train"].get("targets_left_out", {})
    expected = blocks.prunable(checkpoint.read_model(parent)).keys() - left_out.keys()
    assert masked_lora.layers(loaded.model).keys() == expected


@pytest.mark.parametrize("packing", ["nf4", "int8"])
@pytest.mark.parametrize("kind", ["mamba", "qwen3_moe"])
def test_qlora_leaves_plain_what_the_model_reads(tmp_path, kind, packing):
    parent = artifact(tmp_path / "parent", kind)
    record, out = tune(tmp_path, parent, "qlora", quantization=packing, learning_rate=2e-2)
    plain = record["train"].get("not_quantized", {})
    assert ends(plain) == ({READ[kind]} if kind in READ else set())
    loaded = open_checkpoint.load(out)
    assert loaded.record == record["weights"]
    assert record["weights"]["precision"] == packing
    adapted = masked_lora.layers(loaded.model)
    assert not adapted.keys() & plain.keys()
    assert all(quantized.is_packed(layer.get_base_layer()) for layer in adapted.values())
    old = checkpoint.read_model(parent)
    for name in plain:
        assert torch.equal(old.get_submodule(name).weight, loaded.model.get_submodule(name).weight)
    with torch.inference_mode():
        assert torch.isfinite(loaded.model(torch.tensor([[5, 9, 4]])).logits).all()


def test_merged_qlora_leaves_plain_the_same(tmp_path):
    parent = artifact(tmp_path / "parent", "falcon_mamba")
    record, out = tune(tmp_path, parent, "qlora", adapter="merged", max_steps=2)
    plain = record["train"]["not_quantized"]
    loaded = open_checkpoint.load(out)
    packed = {n for n, m in loaded.model.named_modules() if quantized.is_packed(m)}
    old = checkpoint.read_model(parent)
    assert packed == blocks.prunable(old).keys() - plain.keys()


@pytest.mark.parametrize("precision", ["nf4", "int8"])
def test_what_is_quantized_computes_with_the_dequantized_weights(tmp_path, precision):
    """The oracle is the plain model with each weight replaced by its nearest code."""
    parent = artifact(tmp_path / "parent", "falcon_mamba")
    record, out = change(
        tmp_path, parent, strategy="quantize", precision=precision, double_quant=False
    )
    assert ends(record["transform"]["not_quantized"]) == {"dt_proj"}
    loaded, plain = open_checkpoint.load(out).model, checkpoint.read_model(parent)
    for name, module in loaded.named_modules():
        if quantized.is_packed(module):
            plain.get_submodule(name).weight.data = quantized.dequantize(module)
    ids = torch.tensor([[5, 9, 33, 8]])
    with torch.inference_mode():
        assert torch.allclose(loaded(ids).logits, plain(ids).logits, atol=1e-5)


def test_a_model_of_which_nothing_can_be_packed_is_refused_at_the_start(tmp_path):
    parent = artifact(tmp_path / "parent", "falcon")
    with pytest.raises(PrunegridError, match="no linear of its blocks can be packed") as error:
        change(tmp_path, parent, strategy="quantize", precision="nf4", double_quant=True)
    assert error.value.where == "test"


def test_a_target_without_effect_is_refused_before_training(tmp_path, monkeypatch):
    parent = artifact(tmp_path / "parent", "mamba")
    monkeypatch.setattr("prunegrid.finetuning.training.learning_rates.train", None)
    with pytest.raises(PrunegridError, match="dt_proj .*reads its weight") as error:
        tune(tmp_path, parent, "lora", targets=["in_proj", "dt_proj"])
    assert "in_proj" in str(error.value) and error.value.where == "test"
