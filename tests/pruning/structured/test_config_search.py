"""Blocks that are not alike: what stays computes what it did, or is refused before any work."""

from __future__ import annotations

import pytest
import torch
import transformers

from prunegrid.common.errors import PrunegridError
from tests.helpers import shrunken

pytestmark = pytest.mark.model

WINDOW, FULL, STATE = "sliding_attention", "full_attention", "linear_attention"
MAMBA = {"mamba_d_state": 8, "mamba_d_head": 16, "mamba_n_heads": 4, "mamba_n_groups": 1}
LINEAR = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8}
LINEAR |= {"linear_value_head_dim": 8, "head_dim": 8}
NO_ATTENTION = {"num_attention_heads": None, "num_key_value_heads": None}
NO_MLP = {"intermediate_size": None, "num_key_value_heads": None}
BART = {"d_model": 32, "encoder_layers": 4, "decoder_layers": 4, "encoder_attention_heads": 4}
BART |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
BART |= {**NO_MLP, **NO_ATTENTION, "hidden_size": None, "num_hidden_layers": None}
# Name → kind, sizes, list of the blocks, setting of the smaller config that says which stayed.
LOST = 1
CASES = {
    "windows in a list": (
        "gemma3_text",
        {"head_dim": 8, "sliding_window": 3, "layer_types": [WINDOW, FULL] * 2},
        "model.layers",
        ("layer_types", [WINDOW, WINDOW, FULL]),
    ),
    "positions in a list": (
        "smollm3",
        {"no_rope_layers": [1, 0, 1, 1], "layer_types": [FULL] * 4},
        "model.layers",
        ("no_rope_layers", [1, 1, 1]),
    ),
    "places of attention": (
        "bamba",
        {**MAMBA, "mamba_expand": 2, "attn_layer_indices": [0, 3]},
        "model.layers",
        ("attn_layer_indices", [0, 2]),
    ),
    "a pattern that repeats": (
        "recurrent_gemma",
        {"lru_width": 32, "attention_window_size": 4, "block_types": ["recurrent", "attention"]},
        "model.layers",
        ("block_types", ["recurrent", "recurrent", "attention"]),
    ),
    "a pattern with counts": (
        "gpt_neo",
        {**NO_MLP, "num_hidden_layers": None, "num_attention_heads": None, "num_layers": 4,
         "num_heads": 4, "window_size": 3, "attention_types": [[["global", "local"], 2]]},
        "transformer.h",
        ("attention_layers", ["global", "global", "local"]),
    ),
    "a number that follows from a list": (
        "nemotron_h",
        {"layers_block_type": ["mamba", "mlp", "attention", "mlp"], "mamba_num_heads": 4,
         "mamba_head_dim": 16, "ssm_state_size": 8, "n_groups": 1, "head_dim": 8},
        "model.layers",
        ("num_hidden_layers", 3),
    ),
    "another name for the number": ("bart", BART, "model.decoder.layers", ("decoder_layers", 3)),
    "no attention at all": (
        "mamba2",
        {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1, **NO_MLP, **NO_ATTENTION},
        "backbone.layers",
        ("num_hidden_layers", 3),
    ),
    "slices outside and widths inside": (
        "gemma3n_text",
        {"head_dim": 8, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 64,
         "num_kv_shared_layers": 0, "laurel_rank": 4, "sliding_window": 4,
         "activation_sparsity_pattern": [0.9, 0.5, 0.0, 0.0],
         "layer_types": [WINDOW, WINDOW, FULL, FULL]},
        "model.layers",
        ("activation_sparsity_pattern", [0.9, 0.0, 0.0]),
    ),
    "overrides of single blocks": (
        "llama",
        {"allow_global_per_layer_attribute_access": True,
         "per_layer_config": {"1": {"rms_norm_eps": 0.5}, "3": {"rms_norm_eps": 0.25}}},
        "model.layers",
        ("per_layer_config", {"2": {"rms_norm_eps": 0.25}}),
    ),
}  # fmt: skip


@torch.no_grad()
def logits(model, tokens):
    return model(tokens, use_cache=False).logits


def remove(tmp_path, model, units=("blocks",), sparsity=0.25):
    weights = shrunken.artifact(tmp_path / "model", model)
    asked = {"method": "magnitude", "units": list(units), "sparsity": sparsity}
    return shrunken.shrink(tmp_path / "out", weights, None, **asked)


def gone(story):
    return [name for name, kinds in story["blocks"].items() if kinds["blocks"]["removed"]]


@pytest.mark.parametrize("name", CASES)
def test_what_a_config_says_of_single_blocks_goes_with_them(tmp_path, name):
    kind, sizes, blocks, (key, value) = CASES[name]
    model = shrunken.drawn(kind, faint=(f"{blocks}.{LOST}.",), **sizes)
    _, story = remove(tmp_path, model)
    assert gone(story) == [f"{blocks}.{LOST}"] and not story["must_stay"]
    small = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    said = small.config.to_dict().get(key, getattr(small.config, key, None))
    assert said == value
    tokens = shrunken.windows(2, 12)
    before = logits(model, tokens)
    shrunken.pass_by(model.get_submodule(f"{blocks}.{LOST}"))
    expected = logits(model, tokens)
    assert not torch.allclose(before, expected, rtol=1e-4)
    assert torch.allclose(logits(small, tokens), expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("kind", "sizes", "first", "said"),
    [
        # The last block alone has a bias.
        (
            "gpt_neox_japanese",
            {**NO_MLP, "intermediate_multiple_size": 2},
            "gpt_neox_japanese.layers.3",
            "dense_bias",
        ),
        # What a block multiplies by follows from its place, so only the last can go.
        ("diffllama", {}, "model.layers.1", "lambda_init"),
        # The first block alone has a norm before it.
        (
            "rwkv",
            {"attention_hidden_size": 32, **NO_ATTENTION},
            "rwkv.blocks.0",
            "pre_ln",
        ),
    ],
)  # fmt: skip
def test_a_block_that_no_config_can_do_without_stays(tmp_path, kind, sizes, first, said):
    model = shrunken.drawn(kind, faint=(f"{first}.",), **sizes)
    _, story = remove(tmp_path, model)
    assert next(iter(story["must_stay"])) == first and said in story["must_stay"][first]
    (other,) = gone(story)
    assert other != first
    small = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokens = shrunken.windows(2, 12)
    shrunken.pass_by(model.get_submodule(other))
    expected = logits(model, tokens)
    assert torch.allclose(logits(small, tokens), expected, atol=1e-4 * float(expected.abs().max()))


def test_one_block_that_the_cache_counts_by_stays(tmp_path):
    types = [STATE, FULL] * 2
    faint = ("model.layers.1.", "model.layers.3.")
    model = shrunken.drawn("qwen3_5_text", faint=faint, layer_types=types, **LINEAR)
    _, story = remove(tmp_path, model, sparsity=0.5)
    (stays,) = story["must_stay"]
    assert f"{stays}." in faint and "cache" in story["must_stay"][stays]
    small = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokens = shrunken.windows(1, 6)
    made = small.generate(tokens, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    for _ in range(6):
        following = logits(small, tokens)[:, -1].argmax(-1, keepdim=True)
        tokens = torch.cat([tokens, following], dim=1)
    assert made.tolist() == tokens.tolist()


def test_what_follows_from_the_number_of_blocks_is_refused_early(tmp_path, monkeypatch):
    """The residual stream is scaled by the number of blocks, which no shape shows."""
    monkeypatch.setattr(shrunken.stage, "score_units", None)
    ranks = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4}
    model = shrunken.drawn("minicpm3", **ranks, v_head_dim=8, num_key_value_heads=4)
    with pytest.raises(PrunegridError, match="0 of 4 blocks can go.*residual_scale"):
        remove(tmp_path, model)
    assert not list((tmp_path / "out").glob("*.safetensors"))
