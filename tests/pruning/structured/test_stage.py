"""Removing units: equal to making them powerless, in plain transformers; criteria by oracles."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.models import checkpoint
from prunegrid.models.blocks import prunable
from prunegrid.pruning.structured import stage
from prunegrid.pruning.structured.units import find_units
from tests.helpers import shrunken
from tests.helpers.architectures import build, by_output
from tests.helpers.rounding import close
from tests.helpers.shrunken import BLOCKS, NAMES

pytestmark = pytest.mark.model

WITH_HEADS = ("llama", "qwen2", "qwen3", "olmo")
CASES = [(name, ["mlp"]) for name in NAMES] + [(name, ["blocks"]) for name in NAMES]
CASES += [(name, units) for name in WITH_HEADS for units in (["heads"], ["heads", "mlp"])]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a function from an architecture's name to the artifact of its small model."""
    folder, found = tmp_path_factory.mktemp("made"), {}

    def make(name):
        if name not in found:
            found[name] = shrunken.artifact(folder / name, build(name))
        return found[name]

    return make


def terms(model):
    """Return how many products are summed on the way to a model's logits."""
    return sum(by_output(linear).shape[1] for linear in prunable(model).values())


@pytest.mark.parametrize(("name", "units"), CASES, ids=str)
@torch.no_grad()
def test_to_remove_units_is_to_make_them_powerless(made, tmp_path, name, units):
    sparsity = {"mlp": 0.3, "blocks": 0.4}.get(units[0], 0.15 if len(units) == 1 else 0.4)
    record, story = shrunken.shrink(
        tmp_path / "out", made(name), None, method="random", units=units, sparsity=sparsity
    )
    # Unmodified transformers, from the folder's own config.
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    full = shrunken.powerless(name, story)
    tokens = shrunken.windows(3)
    assert close(small(tokens).logits, full(tokens).logits, terms(full))
    # And something was removed that mattered.
    assert not torch.allclose(full(tokens).logits, build(name)(tokens).logits, rtol=1e-2)
    total = sum(p.numel() for p in small.parameters())
    weights = sum(by_output(m).numel() for m in prunable(small).values())
    dense = build(name)
    assert record["weights"]["parameters"] == total < sum(p.numel() for p in dense.parameters())
    before = sum(by_output(m).numel() for m in prunable(dense).values())
    assert record["weights"]["removed_prunable"] == 1 - weights / before
    of_all = 1 - total / sum(p.numel() for p in dense.parameters())
    assert record["weights"]["removed_total"] == of_all
    assert record["weights"]["pattern"] is None and record["weights"]["nm_valid"] is None
    assert set(record["removed"]) == set(units) and record["removed"][units[0]] > 0
    for kind, count in record["removed"].items():
        gone = [kinds[kind]["removed"] for kinds in story["blocks"].values()]
        assert sum(gone) == count if kind == "blocks" else gone == [count] * BLOCKS
    assert checkpoint.load(tmp_path / "out").record == record["weights"]


@pytest.mark.parametrize("method", ["wanda", "taylor"])
@torch.no_grad()
def test_a_model_in_bfloat16_stays_one(tmp_path, method):
    weights = shrunken.artifact(tmp_path / "model", build("llama").bfloat16())
    asked = {"method": method, "units": ["heads", "mlp"], "sparsity": 0.4}
    _, story = shrunken.shrink(tmp_path / "out", weights, shrunken.windows(), **asked)
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").eval()
    assert small.dtype == torch.bfloat16
    full = shrunken.powerless("llama", story, dtype=torch.bfloat16).float()
    tokens = shrunken.windows(3)
    assert close(small.float()(tokens).logits, full(tokens).logits, terms(full))


@pytest.mark.parametrize("units", [["heads", "mlp"], ["blocks"]], ids="+".join)
@torch.no_grad()
def test_a_cache_works_as_in_the_full_model(made, tmp_path, units):
    _, story = shrunken.shrink(
        tmp_path / "out", made("qwen2"), None, method="magnitude", units=units, sparsity=0.4
    )
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    full, tokens = shrunken.powerless("qwen2", story), shrunken.windows(1, 6)
    written = small.generate(tokens, max_new_tokens=12, do_sample=False, pad_token_id=1)
    for _ in range(written.shape[1] - tokens.shape[1]):
        following = full(tokens, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
        tokens = torch.cat([tokens, following], dim=1)
    assert written.tolist() == tokens.tolist()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("opt-125m", "fewer heads need a head_dim"),
        ("gpt2", "fewer heads need a head_dim"),
        ("gpt-neox", "its config cannot say num_attention_heads: 3"),
        ("olmo2", "q_norm|k_norm"),
    ],
)
def test_heads_that_a_plain_config_cannot_say_are_refused(made, tmp_path, name, said):
    with pytest.raises(PrunegridError, match=said) as refused:
        shrunken.shrink(
            tmp_path / "out", made(name), None, method="magnitude", units=["heads"], sparsity=0.15
        )
    assert "[mlp]" in str(refused.value)


def test_an_encoder_decoder_is_refused():
    with pytest.raises(PrunegridError, match="encoder-decoder"):
        find_units(build("t5"), ["mlp"], shrunken.windows(1))


def test_a_model_whose_units_are_not_independent_is_not_saved_as_if_they_were(
    made, tmp_path, monkeypatch
):
    """The fault: the wrong neurons are kept in one linear."""
    plain = stage.shapes.smaller_tensors

    def shifted(state, *others):
        found = plain(state, *others)
        name = "model.layers.0.mlp.up_proj.weight"
        return found | {name: found[name].roll(1, 0)}

    monkeypatch.setattr(stage.shapes, "smaller_tensors", shifted)
    with pytest.raises(AttestationError, match="logits differ"):
        shrunken.shrink(
            tmp_path / "out", made("llama"), None, method="random", units=["mlp"], sparsity=0.3
        )


def test_sparsity_is_of_the_dense_model_through_a_chain(made, tmp_path):
    weights, dense = made("llama"), checkpoint.load(made("llama")).record
    for place, sparsity in enumerate((0.2, 0.4, 0.6)):
        folder = tmp_path / str(place)
        record, _ = shrunken.shrink(
            folder, weights, None, method="magnitude", units=["mlp"], sparsity=sparsity
        )
        neuron = 3 * 3 * 16
        gone = record["weights"]["removed_prunable"] * dense["prunable_parameters"]
        assert abs(gone - sparsity * dense["prunable_parameters"]) <= neuron / 2 + 1e-6
        assert record["weights"]["prunable_before"] == dense["prunable_parameters"]
        assert record["weights"]["parameters_before"] == dense["parameters"]
        weights = folder
    with pytest.raises(PrunegridError, match="are gone already"):
        shrunken.shrink(
            tmp_path / "less", weights, None, method="magnitude", units=["mlp"], sparsity=0.5
        )
    with pytest.raises(PrunegridError, match="can give"):
        shrunken.shrink(
            tmp_path / "more", weights, None, method="magnitude", units=["mlp"], sparsity=0.95
        )


def test_one_shot_and_the_same_steps_of_a_nested_criterion_end_alike(made, tmp_path):
    """Magnitudes do not change when neurons go, so steps remove what one step removes."""
    asked = {"method": "magnitude", "units": ["mlp"]}
    shrunken.shrink(tmp_path / "first", made("llama"), None, sparsity=0.2, **asked)
    shrunken.shrink(tmp_path / "second", tmp_path / "first", None, sparsity=0.5, **asked)
    shrunken.shrink(tmp_path / "once", made("llama"), None, sparsity=0.5, **asked)
    twice, once = (checkpoint.load(tmp_path / name).record for name in ("second", "once"))
    assert twice["sha256"] == once["sha256"]


def test_kept_neurons_are_a_multiple(made, tmp_path):
    asked = {"method": "magnitude", "units": ["mlp"], "sparsity": 0.3}
    record, _ = shrunken.shrink(tmp_path / "out", made("llama"), None, multiple=8, **asked)
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["intermediate_size"] % 8 == 0
    assert config["intermediate_size"] == 32 - record["removed"]["mlp"]


def test_without_a_multiple_widths_are_even_and_uneven_ones_are_told(made, tmp_path, caplog):
    asked = {"method": "magnitude", "units": ["mlp"], "sparsity": 0.2}
    usual, _ = shrunken.shrink(tmp_path / "usual", made("llama"), None, multiple=None, **asked)
    assert usual["removed"] == {"mlp": 16}  # of 32: the largest power of two that lets some go
    assert "multiple" not in caplog.text
    exact, _ = shrunken.shrink(tmp_path / "exact", made("llama"), None, **asked)
    stay = 32 - exact["removed"]["mlp"]
    assert stay % 8 and f"{stay} neurons stay" in caplog.text


def test_heads_are_of_the_number_that_the_config_can_say(tmp_path):
    """Three groups of three in a width of 18: 6 heads divide it, so one group or two may go."""
    from transformers import LlamaConfig

    sizes = {"hidden_size": 18, "num_attention_heads": 9, "num_key_value_heads": 3}
    sizes |= {"head_dim": 2, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 64}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**sizes)).eval()
    weights = shrunken.artifact(tmp_path / "model", model)
    record, _ = shrunken.shrink(
        tmp_path / "out", weights, None, method="magnitude", units=["heads", "mlp"], sparsity=0.3
    )
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert record["removed"]["heads"] == 1
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (6, 2)
    assert config["head_dim"] == 2
    assert record["weights"]["removed_prunable"] == pytest.approx(0.3, abs=0.02)


def test_taylor_and_wanda_need_a_calibration(made, tmp_path):
    needy = (("taylor", "none"), ("wanda", "none"), ("influence", "none"))
    for method, update in (*needy, ("random", "least_squares")):
        with pytest.raises(PrunegridError, match="needs calibration samples"):
            shrunken.shrink(
                tmp_path / f"{method}-{update}",
                made("llama"),
                None,
                method=method,
                units=["blocks"] if method == "influence" else ["mlp"],
                sparsity=0.3,
                update=update,
            )


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt-350m"])
@torch.no_grad()
def test_the_blocks_of_least_influence_go(made, tmp_path, name):
    tokens = shrunken.windows()
    record, story = shrunken.shrink(
        tmp_path / "out", made(name), tokens, method="influence", units=["blocks"], sparsity=0.34
    )
    scores = {block: facts["blocks"]["score"] for block, facts in story["blocks"].items()}
    gone = [block for block, facts in story["blocks"].items() if facts["blocks"]["removed"]]
    assert gone == [min(scores, key=scores.get)] and record["removed"] == {"blocks": 1}
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    full = shrunken.powerless(name, story)
    assert close(small(tokens).logits, full(tokens).logits, terms(full))
