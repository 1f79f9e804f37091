"""STADE: its ranking and its biases by brute force, and models that plain transformers loads."""

import json

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models import blocks, checkpoint
from prunegrid.pruning import prune_weight
from prunegrid.pruning.input_stats import Accumulator
from prunegrid.pruning.layerwise import prune_model
from prunegrid.pruning.output_errors import output_error
from prunegrid.pruning.pruner import Pruner
from prunegrid.pruning.recipe import Recipe
from prunegrid.stages import prune
from tests.helpers import tiny
from tests.helpers.architectures import build
from tests.helpers.pruning_jobs import Job, record_of, write_artifact

STADE = {"method": "stade", "pattern": "2:4", "propagation": "sequential"}


def layer(rows=8, columns=16, tokens=200):
    """Return a linear with a bias, and inputs whose means are far from zero."""
    draw = torch.Generator().manual_seed(2)
    inputs = torch.randn(tokens, columns, generator=draw) * torch.rand(columns, generator=draw)
    inputs += 3 * torch.randn(columns, generator=draw)
    linear = nn.Linear(columns, rows)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.normal_(generator=draw)
    return linear, inputs


def stats_of(inputs, needs):
    sums = Accumulator(needs, inputs.shape[1])
    sums.add(inputs, "here")
    return sums.finish()


def test_the_weights_that_go_are_those_of_least_square_times_variance():
    linear, inputs = layer()
    weight = linear.weight.detach()
    found = prune_weight(weight, "stade", "unstructured", sparsity=0.5, inputs=inputs)
    variances = inputs.double().var(0, correction=0)
    for row, pruned in zip(weight.double(), found, strict=True):
        scores = [float(w) ** 2 * float(v) for w, v in zip(row, variances, strict=True)]
        gone = sorted(range(16), key=scores.__getitem__)[:8]
        assert (pruned == 0).nonzero().flatten().tolist() == sorted(gone)
    wanda = prune_weight(weight, "wanda", "unstructured", sparsity=0.5, inputs=inputs)
    assert not torch.equal(wanda == 0, found == 0), "means this large must matter"


@torch.no_grad()
@pytest.mark.parametrize("update", [None, "least_squares"])
def test_the_bias_makes_up_for_the_mean_and_the_report_says_what_is_left(update):
    linear, inputs = layer()
    outputs, bias = linear(inputs), linear.bias.clone()
    stats = stats_of(inputs, "hessian_and_moments")
    pruner = Pruner(Recipe("stade", "2:4", update=update), {})
    pruner.prune_all({"l": linear}, {"l": stats})
    left = linear(inputs) - outputs
    assert torch.allclose(left.mean(0), torch.zeros(8), atol=1e-5)
    assert float(left.square().mean()) > 1e-3
    facts = pruner.report["l"]
    assert facts["biases_changed"] == int((linear.bias != bias).sum()) == 8
    own = (outputs - bias).square().sum()
    assert facts["output_error"] == pytest.approx(float(left.square().sum() / own), rel=1e-3)


@torch.no_grad()
def test_without_a_hessian_the_error_is_that_of_uncorrelated_inputs():
    linear, inputs = layer()
    before, stats = linear.weight.clone(), stats_of(inputs, "input_moments")
    after = before * (torch.rand(before.shape) > 0.5)
    squares = inputs.double().square().mean(0)
    expected = ((after - before).double().square() * inputs.double().var(0, correction=0)).sum()
    found = output_error(before, after, stats, shifted=True)
    assert found == pytest.approx(float(expected / (before.square() * squares).sum()), rel=1e-3)


@torch.no_grad()
def test_inputs_that_never_change_go_first_at_no_cost():
    linear, inputs = layer()
    inputs[:, ::2] = inputs[0, ::2]
    outputs = linear(inputs)
    Pruner(Recipe("stade", "2:4"), {}).prune_all(
        {"l": linear}, {"l": stats_of(inputs, "input_moments")}
    )
    assert not linear.weight[:, ::2].any() and linear.weight[:, 1::2].all()
    assert torch.allclose(linear(inputs), outputs, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("own", [{"compensate": False}, {}], ids=str)
def test_biases_stay_where_none_is_to_change(own):
    linear, inputs = layer()
    if not own:
        linear.bias = None
    before = None if linear.bias is None else linear.bias.clone()
    pruner = Pruner(Recipe("stade", "2:4", settings=own), {})
    pruner.prune_all({"l": linear}, {"l": stats_of(inputs, "input_moments")})
    assert "biases_changed" not in pruner.report["l"]
    assert linear.bias is None if before is None else torch.equal(linear.bias, before)


# Whole models, through the stage.


def windows():
    return torch.randint(5, 40, (4, 24), generator=torch.Generator().manual_seed(0))


def parent(folder, model):
    """Return the dense artifact of a model whose inputs have means: norms with a bias do that."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.5, generator=torch.Generator().manual_seed(len(name)))
    return write_artifact(
        folder, lambda out: {"weights": checkpoint.write_plain(model, None, out, None).record}
    )


def pruned(place, weights, memory=None, **own):
    """Return the artifact of a pruned model, by its windows alone."""
    place.mkdir()
    calibrated = place / "calibration"
    calibrated.mkdir()
    save_file({"tokens": windows()}, calibrated / "tokens.safetensors")
    model = transformers.AutoModelForCausalLM.from_pretrained(weights)
    norms = {n: torch.ones(blocks.oriented(m).shape[1]) for n, m in blocks.prunable(model).items()}
    save_file(norms, calibrated / "input_norms.safetensors")
    job = Job(place / "scratch", **({"memory": memory} if memory else {}))
    sources = {"weights": weights, "calibration": calibrated}
    return write_artifact(place / "out", lambda out: prune.run(STADE | own, sources, out, job))


def logits_of(model):
    with torch.no_grad():
        return model(windows()).logits


BY_BLOCK = {"model": "by-block", "activations": "device", "chunk": 8}


@pytest.mark.model
@pytest.mark.parametrize("kind", ["opt", "gpt2"])
def test_a_model_with_biases_is_compensated_saved_and_loaded(tmp_path, kind):
    weights = parent(tmp_path / "dense", tiny.model(kind))
    made = pruned(tmp_path / "whole", weights)
    record, report = record_of(made), json.loads((made / "prune.json").read_text())
    assert record["biases_changed"] == sum(facts["biases_changed"] for facts in report.values()) > 0
    alone = pruned(tmp_path / "alone", weights, compensate=False)
    assert "biases_changed" not in record_of(alone)
    assert record_of(alone)["weights"]["sha256"] != record["weights"]["sha256"]
    dense, loaded, plain = (
        transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        for folder in (weights, made, alone)
    )
    first = next(iter(report))
    before, after, masked = (blocks.prunable(m)[first] for m in (dense, loaded, plain))
    assert torch.equal(after.weight, masked.weight), "the biases change no first mask"
    assert int((after.bias != before.bias).sum()) == report[first]["biases_changed"] > 0
    assert torch.equal(masked.bias, before.bias)
    assert checkpoint.load(made).record["sha256"] == record["weights"]["sha256"]
    part = pruned(tmp_path / "part", weights, memory=BY_BLOCK)
    assert record_of(part)["weights"]["sha256"] == record["weights"]["sha256"]
    assert json.loads((part / "prune.json").read_text()) == report
    shards = transformers.AutoModelForCausalLM.from_pretrained(part).eval()
    assert torch.equal(logits_of(shards), logits_of(loaded))


@pytest.mark.model
def test_llama_gets_biases_only_if_asked_and_its_folder_says_so(tmp_path):
    model = tiny.model("llama")
    weights = parent(tmp_path / "dense", model)
    alone = pruned(tmp_path / "alone", weights)
    assert not transformers.AutoConfig.from_pretrained(alone).mlp_bias
    assert "biases_changed" not in record_of(alone)
    made = pruned(tmp_path / "more", weights, add_biases=True)
    config = transformers.AutoConfig.from_pretrained(made)
    assert config.attention_bias and config.mlp_bias
    loaded, found = transformers.AutoModelForCausalLM.from_pretrained(
        made, output_loading_info=True
    )
    assert not any(found[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    # In memory, by the code of the stage: the very same outputs.
    prune_model(
        model,
        Recipe("stade", "2:4", settings={"add_biases": True}),
        tokens=windows(),
        norms={name: torch.ones(m.in_features) for name, m in blocks.prunable(model).items()},
    )
    assert torch.equal(logits_of(loaded.eval()), logits_of(model))
    for linear in blocks.prunable(loaded).values():
        assert linear.bias is not None and linear.bias.any()
    assert record_of(made)["biases_changed"] == sum(
        int((linear.bias != 0).sum()) for linear in blocks.prunable(loaded).values()
    )


@pytest.mark.model
@pytest.mark.parametrize(
    ("name", "said"), [("qwen2", "o_proj"), ("olmo2", "mlp"), ("gpt-neox", None), ("bert", None)]
)
def test_biases_that_the_config_cannot_hold_are_refused_before_any_work(name, said):
    model = build(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    tokens = torch.randint(2, 64, (2, 24), generator=torch.Generator().manual_seed(0))
    recipe = Recipe("stade", "2:4", settings={"add_biases": True})
    if said is None:  # all of its linears have some
        assert all(f["biases_changed"] for f in prune_model(model, recipe, tokens=tokens).values())
        return
    with pytest.raises(PrunegridError, match=said) as caught:
        prune_model(model, recipe, tokens=tokens)
    assert "add_biases" in caught.value.remedy
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.model
@pytest.mark.parametrize(
    ("own", "memory", "said"),
    [
        ({"add_biases": True, "compensate": False}, None, "stay zero"),
        ({"add_biases": True}, BY_BLOCK, "held by block"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(tmp_path, own, memory, said):
    weights = parent(tmp_path / "dense", tiny.model("llama"))
    with pytest.raises(PrunegridError, match=said):
        pruned(tmp_path / "out", weights, memory=memory, **own)
