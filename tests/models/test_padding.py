"""Models that see pads are found by a probe, and are given none: a row's numbers are its own."""

import math

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
)

from prunegrid.evaluation.generation import generate
from prunegrid.finetuning.training.loss import mean_loss
from prunegrid.finetuning.training.token_batches import Example
from prunegrid.models.padding import sees_padding, unpadded
from tests.helpers import tiny

pytestmark = pytest.mark.model
SMALL = dict(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=4, max_position_embeddings=64, pad_token_id=0, bos_token_id=1,
    eos_token_id=2,
)  # fmt: skip
BART = dict(
    vocab_size=64, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
    decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64,
    pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2, dropout=0.0,
)  # fmt: skip
# Positions counted from the left edge; a recurrence that knows no mask; mixing of all tokens.
SEEING = {
    "pegasus": (AutoModelForCausalLM, BART, "left"),
    "blenderbot-small": (AutoModelForCausalLM, BART, "left"),
    "rwkv": (
        AutoModelForCausalLM,
        dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, context_length=64, pad_token_id=0),
        "left",
    ),
    "fnet": (AutoModel, SMALL | {"tpu_short_seq_length": 64}, "right"),
}
BLIND = {
    "llama": (AutoModelForCausalLM, SMALL, "left"),
    "gpt_neox": (AutoModelForCausalLM, SMALL, "left"),
    "mamba": (
        AutoModelForCausalLM,
        dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=8, pad_token_id=0),
        "left",
    ),
    "bert": (AutoModel, SMALL, "right"),
    "bart": (AutoModelForSeq2SeqLM, BART, "right"),
}


def build(kind, table):
    auto, config, side = table[kind]
    torch.manual_seed(0)
    model = auto.from_config(AutoConfig.for_model(kind, **config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model, side


def rows(lengths, seed=0):
    draw = torch.Generator().manual_seed(seed)
    ids = [torch.randint(3, 64, (n + 4,), generator=draw).tolist() for n in lengths]
    return [Example(row[:-4], row[-4:]) for row in ids]


@pytest.mark.parametrize("kind", SEEING)
def test_models_that_see_pads_are_found(kind):
    model, side = build(kind, SEEING)
    assert sees_padding(model, 0, side)
    assert not model.training


@pytest.mark.parametrize("kind", BLIND)
def test_models_whose_mask_hides_pads_share_batches_of_any_lengths(kind):
    model, side = build(kind, BLIND)
    assert not sees_padding(model, 0, side)
    batches = [rows([3, 9, 5])]
    assert unpadded(model, batches, 0, side) is batches


def test_a_decoder_beside_an_encoder_that_sees_the_pads_behind_its_row_is_found():
    model, side = build("bart", BLIND)

    def mixed(_module, _args, output):
        states = output.last_hidden_state
        output.last_hidden_state = states + states.mean(1, keepdim=True)
        return output

    model.get_decoder().register_forward_hook(mixed)
    assert sees_padding(model, 0, side)


def test_batches_are_cut_into_rows_of_equal_length():
    model, side = build("rwkv", SEEING)
    (a, b, c, d) = rows([3, 9, 3, 9])
    assert unpadded(model, [[a, b, c], [d]], 0, side) == [[a, c], [b], [d]]


def without_mask(model):
    """Return the model with a `generate` that keeps the attention mask to itself."""
    prepare = model.prepare_inputs_for_generation

    def bare(input_ids, attention_mask=None, position_ids=None, **named):
        return prepare(input_ids, **named)

    model.prepare_inputs_for_generation = bare
    return model


@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])
def test_pads_that_generate_alone_shows_are_found(kind):
    model = without_mask(build(kind, BLIND)[0])
    assert not sees_padding(model, 0, "left")
    assert sees_padding(model, 0, "left", writing=True)


@pytest.mark.parametrize("kind", [*[k for k in BLIND if k != "bert"], "roberta"])
def test_generate_that_hands_the_mask_on_shows_no_pads(kind):
    # RoBERTa counts positions from behind its padding index, which `generate` does not.
    decoder = (AutoModelForCausalLM, SMALL | {"is_decoder": True, "pad_token_id": 1}, "left")
    model, side = build(kind, BLIND | {"roberta": decoder})
    assert not sees_padding(model, model.config.pad_token_id, side, writing=True)


@torch.no_grad()
def loss_alone(model, examples):
    """Return the mean loss of responses, a row at a time, by plain torch."""
    losses = []
    for row in examples:
        ids = torch.tensor([row.prompt + row.response])
        scores = model(input_ids=ids).logits[0].double().log_softmax(-1)
        losses += [
            -float(scores[place - 1, ids[0, place]])
            for place in range(len(row.prompt), ids.shape[1])
        ]
    return math.fsum(losses) / len(losses)


@pytest.mark.parametrize("kind", [*[k for k in SEEING if k != "fnet"], "llama", "mamba"])
def test_a_loss_does_not_depend_on_the_batch(kind):
    model, _ = build(kind, SEEING if kind in SEEING else BLIND)
    examples = rows([4, 7, 7, 12, 5, 20])
    expected = loss_alone(model, examples)
    for size in (1, 2, 6):
        settings = {"batch_size": size, "loss_on": "response", "autocast": "float32"}
        found = mean_loss(model, examples, settings, pad=0, device="cpu")
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["pegasus", "rwkv", "llama"])
def test_texts_do_not_depend_on_the_batch(kind):
    model = build(kind, SEEING)[0] if kind in SEEING else without_mask(build(kind, BLIND)[0])

    class Plain:
        """Decodes tokens to themselves."""

        @staticmethod
        def decode(ids):
            return " ".join(map(str, ids))

    asked = [tiny.SimpleNamespace(ids=row.prompt) for row in rows([4, 7, 12, 5])]
    texts = []
    for size in (1, 4):
        settings = tiny.generation(max_new_tokens=6, batch_size=size)
        found, _ = generate(model, Plain(), asked, settings, stops=[2], pad=0, device="cpu")
        texts.append([one.text for one in found])
    assert texts[0] == texts[1]
