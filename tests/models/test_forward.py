"""How many tokens a model has positions and embeddings for, by configs of many names."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from prunegrid.models import forward

pytestmark = pytest.mark.model

SMALL = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
BART = {
    **{"vocab_size": 64, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1},
    **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16},
    **{"decoder_ffn_dim": 16},
}
LED = BART | {"max_encoder_position_embeddings": 96, "max_decoder_position_embeddings": 48}
N_EMBD = {"vocab_size": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}
CAUSAL, SEQ2SEQ = AutoModelForCausalLM, AutoModelForSeq2SeqLM
CASES = {
    "gptj": (CAUSAL, N_EMBD | {"n_positions": 48, "rotary_dim": 4}, 48),
    "mpt": (CAUSAL, {"vocab_size": 64, "d_model": 16, "n_heads": 2, "n_layers": 1,
                     "max_seq_len": 48}, 48),
    "rwkv": (CAUSAL, SMALL | {"context_length": 48}, 48),
    "bloom": (CAUSAL, {"vocab_size": 64, "hidden_size": 16, "n_layer": 1, "n_head": 2}, None),
    "mamba2": (CAUSAL, {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "head_dim": 8,
                        "num_heads": 4, "state_size": 8, "n_groups": 1}, None),
    "xlnet": (CAUSAL, {"vocab_size": 64, "d_model": 16, "n_layer": 1, "n_head": 2,
                       "d_inner": 16}, None),
    "roberta": (AutoModel, SMALL | {"max_position_embeddings": 50, "pad_token_id": 1}, 48),
    "led": (SEQ2SEQ, LED, 48),
}  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
def test_positions_have_many_names(kind):
    auto, settings, expected = CASES[kind]
    with torch.device("meta"):
        model = auto.from_config(AutoConfig.for_model(kind, **settings))
    assert forward.max_positions(model) == expected
    assert forward.embedding_rows(model) == 64


def test_a_part_of_text_says_it_for_the_whole():
    part = {"model_type": "bert", **SMALL, "max_position_embeddings": 40}
    config = AutoConfig.for_model("encoder-decoder", encoder=part, decoder=part)
    with torch.device("meta"):
        model = SEQ2SEQ.from_config(config)
    assert forward.max_positions(model) == 40


def test_a_source_may_be_longer_than_what_its_decoder_writes():
    with torch.device("meta"):
        model = SEQ2SEQ.from_config(AutoConfig.for_model("led", **LED))
    assert forward.max_positions(model, source=True) == 96


def test_a_model_without_a_table_of_tokens_has_no_rows():
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model("canine", **SMALL))
    assert forward.embedding_rows(model) is None
