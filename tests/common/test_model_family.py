"""What a model computes, by its config, and what fits it."""

import pytest

from prunegrid.common import model_family
from prunegrid.common.source_code import LIBRARY, literals

SEQ2SEQ = ["t5", "bart", "m2m_100", "pegasus", "led"]
BOTH = ["bert", "roberta", "electra", "rembert", "roformer"]


@pytest.mark.model
def test_the_types_are_those_of_transformers():
    from transformers.models.auto import modeling_auto as auto

    lists = {
        "causal-lm": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "seq2seq-lm": auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        "masked-lm": auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        "encoder": auto.MODEL_MAPPING_NAMES,
    }
    assert model_family.types() == {task: set(names) for task, names in lists.items()}


@pytest.mark.parametrize("kind", BOTH)
def test_a_type_of_both_is_causal_only_as_a_decoder(kind):
    assert model_family.tasks_of({"model_type": kind}) == {"masked-lm", "encoder"}
    decoder = {"model_type": kind, "is_decoder": True}
    assert model_family.tasks_of(decoder) == {"causal-lm", "encoder"}


@pytest.mark.parametrize("kind", SEQ2SEQ)
def test_an_encoder_decoder_is_no_encoder_and_tells_no_hidden_tokens(kind):
    found = model_family.tasks_of({"model_type": kind})
    assert "seq2seq-lm" in found and not found & {"masked-lm", "encoder"}


def test_a_decoder_of_a_type_with_an_encoder_is_a_causal_model():
    config = {"model_type": "bart", "is_decoder": True, "is_encoder_decoder": False}
    assert model_family.tasks_of(config) == {"causal-lm", "encoder"}


def test_a_model_of_texts_and_images_can_be_what_its_text_part_is():
    config = {"model_type": "llava", "text_config": {"model_type": "llama"}}
    assert "causal-lm" in model_family.tasks_of(config)


@pytest.mark.parametrize(
    ("config", "task", "words"),
    [
        ({"model_type": "roberta"}, "causal-lm", ["is_decoder", "masked-lm or encoder"]),
        ({"model_type": "mt5"}, "encoder", ["model_type mt5", "seq2seq-lm"]),
        ({"model_type": "gpt2"}, "masked-lm", ["model_type gpt2", "causal-lm or encoder"]),
        ({"model_type": "albert"}, "causal-lm", ["model_type albert", "masked-lm"]),
        ({"model_type": "bert", "is_decoder": True}, "masked-lm", ["causal-lm"]),
    ],
)
def test_a_task_that_a_config_cannot_have_is_told_with_those_that_it_can(config, task, words):
    text = model_family.misfit(config, task)
    assert all(word in text for word in words), text


@pytest.mark.parametrize("config", [{"model_type": "of-its-own"}, {}, {"model_type": {"a": 1}}])
def test_of_an_unknown_type_nothing_is_said(config):
    assert all(model_family.misfit(config, task) == "" for task in model_family.TITLES)


def test_every_strategy_says_what_it_fits():
    for file in (LIBRARY / "prunegrid/finetuning/strategies").glob("[!_]*.py"):
        fits = literals(file)["FITS"]
        assert fits and set(fits) <= set(model_family.TITLES), file


@pytest.mark.parametrize(
    ("folder", "name", "task", "words"),
    [
        (model_family.STRATEGIES, "seq2seq", "masked-lm", ["seq2seq needs", "lora"]),
        (model_family.STRATEGIES, "seq2seq", "encoder", ["quantize"]),
        (model_family.STAGES, "tasks", "seq2seq-lm", ["one of translations would fit"]),
        (model_family.STAGES, "classification", "causal-lm", ["predictions"]),
        (model_family.STAGES, "perplexity", None, ["a classifier"]),
    ],
)
def test_a_misfit_is_told_with_what_fits(folder, name, task, words):
    text = model_family.unfit(folder, name, task)
    assert all(word in text for word in words), text


@pytest.mark.parametrize("task", model_family.TITLES)
def test_the_strategies_that_are_named_instead_fit(task):
    text = model_family.unfit(model_family.STRATEGIES, "seq2seq", task)
    named = text.rpartition("which one of ")[2].partition(" would fit")[0].split(", ")
    assert (task == "seq2seq-lm") == (text == "")
    assert not text or all(
        model_family.unfit(model_family.STRATEGIES, n, task) == "" for n in named
    )


@pytest.mark.parametrize(
    ("task", "changes", "word"),
    [
        ("masked-lm", {"processes": 2}, "processes is 2"),
        ("seq2seq-lm", {"processes": 3}, "processes is 3"),
        ("seq2seq-lm", {"loss_on": "all"}, "loss_on: response"),
        ("seq2seq-lm", {"windows": True}, "summaries"),
        ("masked-lm", {"loss_on": "all", "windows": True}, ""),
        ("masked-lm", {"loss_on": "label"}, ""),
        ("encoder", {"loss_on": "label"}, ""),
        ("encoder", {}, "loss_on: label"),
        ("encoder", {"loss_on": "label", "windows": True}, "of summaries"),
        ("causal-lm", {"loss_on": "label"}, "by encoders"),
        ("seq2seq-lm", {"loss_on": "label"}, "by encoders"),
        ("causal-lm", {"processes": 2, "loss_on": "all", "windows": True}, ""),
    ],
)
def test_what_a_step_cannot_teach(task, changes, word):
    settings = {"processes": 1, "loss_on": "response", "windows": False} | changes
    text = model_family.unfit_learning("lora", task, **settings)
    assert (text == "") == (word == "") and word in text
    assert not text or text.startswith("strategy lora: ")
