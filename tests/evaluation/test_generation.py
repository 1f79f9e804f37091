"""Greedy texts in batches whose rows end at different times, with caches of every kind."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from prunegrid.data.prompts import Prompt
from prunegrid.evaluation import generation, timed_work
from prunegrid.models import caches
from tests.helpers import tiny

pytestmark = pytest.mark.model

SMALL = {
    **{"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1},
}
HEADS = SMALL | {"num_key_value_heads": 2, "max_position_embeddings": 64}
MAMBA = {"state_size": 8, "time_step_rank": 4}
N_EMBD = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
MODELS = {
    "llama": HEADS,
    "gemma2": HEADS | {"head_dim": 8, "sliding_window": 4},
    # Convolutions beside attention, one state for both, states alone, and no cache at all.
    "lfm2": HEADS | {"layer_types": ["conv", "full_attention"]},
    "jamba": HEADS | {"num_experts": 1, "mamba_d_state": 8, "mamba_dt_rank": 4,
                      "attn_layer_period": 2, "attn_layer_offset": 1},
    "falcon_mamba": SMALL | MAMBA,
    "mamba2": SMALL | {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1,
                       "chunk_size": 4, "expand": 2},
    "rwkv": SMALL | {"context_length": 64, "attention_hidden_size": 32},
    "openai-gpt": N_EMBD,
}  # fmt: skip
LIMIT = 7


def model_of(kind):
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **MODELS[kind])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def greedy(model, ids, stops, limit):
    """Return the tokens that the model writes, each from a pass over all before it."""
    written = []
    while len(written) < limit and not (written and written[-1] in stops):
        with torch.no_grad():
            logits = model(torch.tensor([ids + written])).logits
        written.append(int(logits[0, -1].argmax()))
    return written


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("size", [1, 8])
def test_rows_that_end_leave_the_others_as_they_are(kind, size):
    model, draw = model_of(kind), torch.Generator().manual_seed(5)
    rows = [torch.randint(2, 64, (5 + n % 2,), generator=draw).tolist() for n in range(8)]
    stops = set(range(0, 64, 3))
    expected = [greedy(model, row, stops, LIMIT) for row in rows]
    assert len({len(written) for written in expected}) > 1
    prompter = SimpleNamespace(decode=lambda ids: " ".join(map(str, ids)))
    settings = tiny.generation(max_new_tokens=LIMIT, batch_size=size)
    prompts = [Prompt(row, False, False) for row in rows]
    predictions, _ = generation.generate(
        model, prompter, prompts, settings, stops=sorted(stops), pad=0, device="cpu"
    )
    for prediction, written in zip(predictions, expected, strict=True):
        stopped = written[-1] in stops
        assert prediction.text == " ".join(map(str, written[: len(written) - stopped]))
        assert (prediction.tokens, prediction.hit_limit) == (len(written), not stopped)


@pytest.mark.parametrize("kind", MODELS)
def test_the_tokens_that_are_timed_are_those_that_the_model_writes(kind):
    """Whatever the name of its cache, and without any."""
    model, given = model_of(kind), []
    ids = torch.tensor([[5, 9, 33, 8], [7, 3, 21, 50]])
    expected = [greedy(model, row, set(), LIMIT) for row in ids.tolist()]
    plain = model.forward

    def watched(*args, **named):
        given.append(named["input_ids"])
        return plain(*args, **named)

    watched.__signature__ = inspect.signature(plain)
    model.forward = watched
    settings = {"batch_size": 2, "prompt_tokens": 4, "new_tokens": LIMIT}
    timed_work.generation(model, settings, "cpu", "test")
    given.clear()
    timed_work.once(model, ids, LIMIT, "cpu")
    assert len(given) == LIMIT and torch.equal(given[0], ids)
    last = torch.stack([step[:, -1] for step in given[1:]], dim=1)
    assert last.tolist() == [written[:-1] for written in expected]


@pytest.mark.parametrize("kind", MODELS)
def test_a_cache_is_believed_only_where_it_is_right(kind):
    """RWKV's state mixes the rows of a batch; one row alone is right."""
    model = model_of(kind)
    assert caches.are_right(model, 1)
    assert caches.are_right(model, 8) == (kind != "rwkv")


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_so_it_is_for_encoder_decoders(kind):
    settings = {"vocab_size": 64, "d_model": 16, "decoder_start_token_id": 0, "num_layers": 1}
    settings |= {"d_kv": 4, "d_ff": 16, "num_heads": 2, "encoder_layers": 1, "decoder_layers": 1}
    model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    own = model.forward

    def forward(encoder_outputs=None, past_key_values=None, use_cache=None, **named):
        if use_cache and encoder_outputs is None:
            raise ValueError("an encoder makes no cache")
        state = {"past_key_values": past_key_values, "use_cache": use_cache}
        return own(encoder_outputs=encoder_outputs, **state, **named)

    model.forward = forward
    assert caches.are_right(model, 4)


def test_a_cache_that_forgets_is_not_believed():
    model = model_of("llama")
    plain = model.forward

    def forgetful(input_ids=None, past_key_values=None, use_cache=None, **named):
        output = plain(input_ids=input_ids, past_key_values=past_key_values, use_cache=use_cache)
        if past_key_values is None and output.past_key_values is not None:
            output.past_key_values.crop(-1)
        return output

    model.forward = forgetful
    assert not caches.are_right(model, 1)
