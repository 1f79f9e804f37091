"""Units in modules of many forms: to remove them is to let them give nothing."""

from __future__ import annotations

import pytest
import torch
import transformers

from prunegrid.common.errors import PrunegridError
from prunegrid.pruning.structured.units import find_units
from tests.helpers import shrunken
from tests.helpers.architectures import by_output

pytestmark = pytest.mark.model

MASKED, CAUSAL = "AutoModelForMaskedLM", "AutoModelForCausalLM"
NO_GROUPS = {"num_key_value_heads": None}
NONE = dict.fromkeys(shrunken.SMALL, None) | {"vocab_size": 64, "pad_token_id": 0}
LINEAR = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8}
LINEAR |= {"linear_value_head_dim": 8, "head_dim": 8}
HYBRID = ["linear_attention", "full_attention"] * 2
# Name → auto class, kind, sizes, unit, ending of the linear that reads the units, its config's key.
CASES = {
    "two modules": (MASKED, "roberta", NO_GROUPS, "mlp", "output.dense", "intermediate_size"),
    "two modules, ELECTRA": (
        MASKED, "electra", {**NO_GROUPS, "embedding_size": 32}, "mlp", "output.dense",
        "intermediate_size",
    ),
    "gate and up in one": (CAUSAL, "glm", {"head_dim": 8}, "mlp", "down_proj", "intermediate_size"),
    "gate and up in one, an encoder": (
        MASKED, "modernbert", NO_GROUPS, "mlp", "mlp.Wo", "intermediate_size",
    ),
    "a width of another name": (
        CAUSAL, "ctrl", {**NONE, "n_embd": 32, "n_layer": 2, "n_head": 4, "dff": 48},
        "mlp", "ffn.2", "dff",
    ),
    "a width of another name, an encoder": (
        MASKED, "distilbert", {**NONE, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48,
                               "max_position_embeddings": 64},
        "mlp", "lin2", "hidden_dim",
    ),
    "MLPs beside a side path": (
        CAUSAL, "gemma4_text",
        {"head_dim": 8, "global_head_dim": 8, "num_kv_shared_layers": 0, "sliding_window": 4,
         "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 64},
        "mlp", "mlp.down_proj", "intermediate_size",
    ),
    "attention in some blocks": (
        CAUSAL, "lfm2", {"layer_types": ["conv", "full_attention"] * 2, "head_dim": 8,
                         "block_auto_adjust_ff_dim": False},
        "heads", "self_attn.out_proj", "num_key_value_heads",
    ),
    "attention with gates": (
        CAUSAL, "qwen3_5_text", {"layer_types": HYBRID, **LINEAR}, "heads", "o_proj",
        "num_key_value_heads",
    ),
    "latent keys and values": (
        CAUSAL, "youtu", {"kv_lora_rank": 16, "q_lora_rank": 16, "qk_nope_head_dim": 8,
                          "qk_rope_head_dim": 4, "v_head_dim": 8, "num_key_value_heads": 4},
        "heads", "o_proj", "num_attention_heads",
    ),
    "heads of each block in a list": (
        CAUSAL, "laguna", {"head_dim": 8, "num_attention_heads_per_layer": [4] * 4,
                           "mlp_layer_types": ["dense"] * 4, "gating": "per-head"},
        "heads", "o_proj", "num_key_value_heads",
    ),
    "queries, keys and values in one": (
        CAUSAL, "phi3", {"head_dim": 8}, "heads", "o_proj", "num_key_value_heads",
    ),
}  # fmt: skip


@torch.no_grad()
def logits(model, tokens):
    return model(tokens).logits


@pytest.mark.parametrize("name", CASES)
def test_units_that_are_gone_are_units_that_give_nothing(tmp_path, name):
    auto, kind, sizes, unit, reading, key = CASES[name]
    weights = shrunken.artifact(tmp_path / "model", shrunken.drawn(kind, auto, **sizes))
    model = getattr(transformers, auto).from_pretrained(weights).eval()
    sparsity = {"mlp": 0.15, "heads": 0.2 if "a list" in name else 0.1}[unit]
    record, story = shrunken.shrink(
        tmp_path / "out", weights, None, method="magnitude", units=[unit], sparsity=sparsity
    )
    small = getattr(transformers, auto).from_pretrained(tmp_path / "out").eval()
    stay = record["units_before"][unit] - record["removed"][unit]
    said = small.config.to_dict()[key]
    assert said in (stay, [stay] * 4) and record["removed"][unit] > 0
    tokens = shrunken.windows(2, 12)
    before, found = logits(model, tokens), 0
    for linear_name, module in model.named_modules():
        block = next((b for b in story["blocks"] if linear_name.startswith(f"{b}.")), None)
        facts = story["blocks"][block][unit] if block else {"removed": 0}
        if facts["removed"] and linear_name.removeprefix(f"{block}.").endswith(reading):
            columns = by_output(module)
            if "attention" in linear_name and unit == "mlp":
                continue
            size = columns.shape[1] // facts["units"]
            for index in facts["indices"]:
                columns[:, index * size : (index + 1) * size] = 0
            found += 1
    expected = logits(model, tokens)
    assert found and not torch.allclose(before, expected, rtol=1e-3)
    assert torch.allclose(logits(small, tokens), expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("auto", "kind", "sizes", "unit", "said"),
    [
        (CAUSAL, "mamba", {**NONE, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
         "heads", "no block has attention"),
        (MASKED, "roberta", NO_GROUPS, "heads", "fewer heads need a head_dim"),
        (CAUSAL, "bloom", {**NONE, "hidden_size": 32, "n_layer": 2, "n_head": 4}, "mlp",
         "numbers is the MLP's width 128"),
        (MASKED, "albert", {**NO_GROUPS, "embedding_size": 32}, "mlp", "called 4 times"),
        # One key-value head that all queries share, and the only block.
        (CAUSAL, "llama", {"num_key_value_heads": 1}, "heads", "one key-value head a layer"),
        (CAUSAL, "llama", {"num_hidden_layers": 1}, "blocks", "one block"),
        # Three of four heads do not divide the width, and two are nearer to all than to three.
        (CAUSAL, "llama", {"num_key_value_heads": 4}, "heads", "not a multiple"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_so(tmp_path, auto, kind, sizes, unit, said):
    weights = shrunken.artifact(tmp_path / "model", shrunken.drawn(kind, auto, **sizes))
    asked = {"method": "magnitude", "units": [unit], "sparsity": {"blocks": 0.4}.get(unit, 0.1)}
    with pytest.raises(PrunegridError, match=said):
        shrunken.shrink(tmp_path / "out", weights, None, **asked)


def test_a_norm_over_all_heads_is_refused_before_any_work(tmp_path, monkeypatch):
    """The norm's width is the hidden size, so shapes fit and only a pass shows it."""
    monkeypatch.setattr(shrunken.stage, "score_units", None)
    weights = shrunken.artifact(tmp_path / "model", shrunken.drawn("bitnet", head_dim=8))
    asked = {"method": "magnitude", "units": ["heads"], "sparsity": 0.1}
    with pytest.raises(PrunegridError, match="cannot run without these units"):
        shrunken.shrink(tmp_path / "out", weights, None, **asked)


def test_blocks_that_share_weights_are_refused():
    model = shrunken.drawn("llama")
    model.model.layers[3].mlp = model.model.layers[1].mlp
    with pytest.raises(PrunegridError, match="layers.3.mlp.* is model.layers.1.mlp"):
        find_units(model, ["blocks"], shrunken.windows(1))


@torch.no_grad()
def test_a_model_without_a_head_loses_units(tmp_path):
    """Its states are compared, as it has no logits."""
    model = shrunken.drawn("bert", "AutoModel", **NO_GROUPS)
    weights = shrunken.artifact(tmp_path / "model", model)
    asked = {"method": "random", "units": ["blocks"], "sparsity": 0.25}
    _, story = shrunken.shrink(tmp_path / "out", weights, None, **asked)
    (gone,) = [name for name, kinds in story["blocks"].items() if kinds["blocks"]["removed"]]
    shrunken.pass_by(model.get_submodule(gone))
    small = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    tokens = shrunken.windows(2, 12)
    assert torch.allclose(small(tokens)[0], model(tokens)[0], atol=1e-4)


def test_each_unit_of_a_joined_linear_has_a_row_of_either_half():
    model = shrunken.drawn("phi3", head_dim=8)
    (group, *_) = find_units(model, ["mlp"], shrunken.windows(1)).groups
    (rows,) = group.rows.values()
    assert rows.tolist() == [[unit, 48 + unit] for unit in range(48)]


@pytest.mark.parametrize(
    ("auto", "kind", "sizes", "units", "corrected"),
    [
        (CAUSAL, "glm", {"head_dim": 8}, ["mlp"], 4),
        (MASKED, "roberta", NO_GROUPS, ["mlp"], 4),
        # Attention in two of four blocks, an MLP in each.
        (CAUSAL, "qwen3_5_text", {"layer_types": HYBRID, **LINEAR}, ["heads", "mlp"], 6),
    ],
)
def test_correction_lessens_the_errors_of_all_forms(tmp_path, auto, kind, sizes, units, corrected):
    weights = shrunken.artifact(tmp_path / "model", shrunken.drawn(kind, auto, **sizes))
    _, story = shrunken.shrink(
        tmp_path / "out", weights, shrunken.windows(8), method="wanda", units=units, sparsity=0.25,
        update="least_squares",
    )  # fmt: skip
    assert len(story["corrected"]) == corrected
    for name, facts in story["corrected"].items():
        assert 0 < facts["error_after"] < facts["error_before"], name
