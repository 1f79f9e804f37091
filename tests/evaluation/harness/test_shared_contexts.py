"""Options after one context: the harness' own sums, with fewer tokens read."""

from __future__ import annotations

import random

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, MambaConfig, MistralConfig

from prunegrid.evaluation.harness import shared_contexts
from prunegrid.evaluation.harness.task_runner import Model
from tests.helpers import tiny
from tests.helpers.architectures import ARCHITECTURES, build

pytestmark = pytest.mark.model

CAUSAL = [name for name, one in ARCHITECTURES.items() if one.auto == "AutoModelForCausalLM"]


@pytest.fixture(autouse=True)
def any_saving(monkeypatch):
    """Share contexts however little it saves: those of these models are short."""
    monkeypatch.setattr(shared_contexts, "LEAST_SAVED", 0)


def requests(items=6, longest=40, seed=0):
    """Return pairs of several items, mixed: options of one to four tokens, some items alike."""
    draw = random.Random(seed)

    def tokens(count):
        return [draw.randrange(3, 60) for _ in range(count)]

    made = []
    for number in range(items):
        context = tokens(draw.randrange(1, longest))
        options = 1 if number == 2 else 4
        made += [
            ((number, place), context, tokens(draw.randrange(1, 5))) for place in range(options)
        ]
    draw.shuffle(made)
    return made


def compared(model, asked, batch_size=3):
    """Return (answers, the harness' own, tokens read for each)."""
    runner = Model(model.eval(), tiny.tokenizer(), batch_size)
    read = []
    handle = model.get_input_embeddings().register_forward_pre_hook(
        lambda module, inputs: read.append(inputs[0].numel())
    )
    found = runner._loglikelihood_tokens(asked, disable_tqdm=True)
    count = sum(read)
    read.clear()
    own = HFLM._loglikelihood_tokens(runner, asked, disable_tqdm=True)
    handle.remove()
    return found, own, (count, sum(read))


def same(found, own):
    return all(
        a[1] == b[1] and abs(a[0] - b[0]) < 1e-4 * max(1, abs(b[0]))
        for a, b in zip(found, own, strict=True)
    )


@pytest.mark.parametrize("name", CAUSAL)
def test_any_architecture_has_the_harness_own_sums(name):
    found, own, _ = compared(build(name), requests())
    assert same(found, own)


@pytest.mark.parametrize("kind", ["opt", "llama", "gpt2"])
def test_a_context_is_read_once(kind):
    asked = requests(items=20, seed=3)
    found, own, (count, by_harness) = compared(tiny.model(kind), asked)
    assert same(found, own) and len({score for score, _ in found}) > 40
    assert count < by_harness / 2


def test_a_window_of_attention_is_kept():
    config = MistralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, sliding_window=6,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    found, own, (count, by_harness) = compared(model, requests())
    assert same(found, own) and count < by_harness


def test_a_model_whose_cache_is_no_list_of_tokens_is_left_to_the_harness():
    config = MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=8)
    torch.manual_seed(0)
    found, own, _ = compared(AutoModelForCausalLM.from_config(config), requests())
    assert found == own


def test_a_cache_that_gives_other_sums_is_left_to_the_harness(monkeypatch):
    real = shared_contexts.answers

    def wrong(model, items):
        return [[(score + 1, greedy) for score, greedy in item] for item in real(model, items)]

    monkeypatch.setattr(shared_contexts, "answers", wrong)
    found, own, _ = compared(tiny.model("llama"), requests())
    assert found == own


def test_a_model_that_cannot_go_on_from_its_cache_is_left_to_the_harness(monkeypatch):
    model = tiny.model("llama")
    real = model.forward

    def forward(*args, past_key_values=None, **named):
        if past_key_values is not None:
            raise RuntimeError("an odd cache")
        return real(*args, **named)

    monkeypatch.setattr(model, "forward", forward)
    found, own, _ = compared(model, requests())
    assert found == own


def places(asked, positions, size=2):
    return list(shared_contexts.batches(asked, positions, size))


def test_contexts_that_the_harness_would_cut_are_left_to_it():
    asked = requests(items=3, longest=40, seed=5)
    whole = max(len(context) + len(option) for _, context, option in asked)
    assert places(asked, whole - 1) == places(asked, 64)
    assert len(places(asked, whole - 2)) < len(places(asked, 64))
    assert places([(None, [5], [7]), (None, [5], [8])], 64) == []


def test_a_batch_has_contexts_of_one_length_and_equally_many_options():
    asked = requests(items=40, longest=6, seed=1)
    found = places(asked, 64, size=3)
    lengths = []
    for batch in found:
        shapes = {(len(asked[item[0]][1]), len(item)) for item in batch}
        assert len(batch) <= 3 and len(shapes) == 1
        assert all(len({tuple(asked[place][1]) for place in item}) == 1 for item in batch)
        lengths += shapes
    assert lengths == sorted(lengths, reverse=True) and any(len(batch) > 1 for batch in found)
    flat = [place for batch in found for item in batch for place in item]
    assert len(flat) == len(set(flat))


def test_items_that_save_few_tokens_are_left_to_the_harness(monkeypatch):
    asked = [(None, [5] * 20, [7, place]) for place in range(4)]
    monkeypatch.setattr(shared_contexts, "LEAST_SAVED", 60)
    assert places(asked, 64) == [[[0, 1, 2, 3]]]
    monkeypatch.setattr(shared_contexts, "LEAST_SAVED", 61)
    assert places(asked, 64) == []
