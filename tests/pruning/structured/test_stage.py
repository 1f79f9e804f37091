"""Removing units: equal to making them powerless, in plain transformers; criteria by oracles."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.models import checkpoint
from prunegrid.models.blocks import prunable
from prunegrid.pruning.structured import removal_plan, stage, unit_scores
from prunegrid.pruning.structured.unit_scores import gradients
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
        ("gpt2", "queries, keys and values in linears of their own"),
        ("gpt-neox", "queries, keys and values in linears of their own"),
        ("olmo2", "q_norm|k_norm"),
    ],
)
def test_heads_that_a_plain_config_cannot_say_are_refused(made, tmp_path, name, said):
    with pytest.raises(PrunegridError, match=said) as refused:
        shrunken.shrink(
            tmp_path / "out", made(name), None, method="magnitude", units=["heads"], sparsity=0.15
        )
    assert "[mlp]" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "said"), [("t5", "encoder-decoder"), ("bert", "no MLP can be told")]
)
def test_models_that_are_not_understood_are_refused(name, said):
    with pytest.raises(PrunegridError, match=said):
        planned(name, ["mlp"])


def planned(name, units, sparsity=0.2):
    """Return (model, units, counts, scores by a criterion) of a small model."""
    model = build(name)
    record = {
        "prunable_parameters": sum(m.weight.numel() for m in prunable(model).values()),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    asked = shrunken.settings("random", units, sparsity)
    found = find_units(model, units, shrunken.windows(1))
    counts = removal_plan.counts_for(found, record, asked, "test")

    def scores(method, tokens=None, job=None):
        job = job or shrunken.job(None)
        return unit_scores.score_units(found, {**asked, "method": method}, tokens, job)

    return model, found, counts, scores


def rows_and_columns(name, model, block, kind, unit):
    """Return [(linear, rows, columns)] of the weights of one unit, by the table of names."""
    modules, names = dict(model.named_modules()), NAMES[name]
    if kind == "blocks":
        linears = [m for n, m in prunable(model).items() if n.startswith(f"{block}.")]
        return [(linear, slice(None), slice(None)) for linear in linears]
    if kind == "mlp":
        writing, reading = names["mlp"]
        found = [(modules[f"{block}.{linear}"], [unit], slice(None)) for linear in writing]
        return [*found, (modules[f"{block}.{reading}"], slice(None), [unit])]
    query, key, value, output = (modules[f"{block}.{n}"] for n in names["heads"])
    size = shrunken.HEAD * shrunken.QUERIES
    many = slice(unit * size, (unit + 1) * size)
    few = slice(unit * shrunken.HEAD, (unit + 1) * shrunken.HEAD)
    rows = [(query, many), (key, few), (value, few)]
    return [(m, r, slice(None)) for m, r in rows] + [(output, slice(None), many)]


def brute(name, model, found, value_of):
    """Return {(kind, block): [score]} summed weight by weight over the units."""
    scores = {}
    for group in found.groups:
        scores[group.kind, group.block] = [
            sum(
                float(value_of(linear)[rows][:, columns].double().sum())
                for linear, rows, columns in rows_and_columns(
                    name, model, group.block, group.kind, unit
                )
            )
            for unit in range(group.units)
        ]
    return scores


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt-350m"])
@pytest.mark.parametrize("units", [["mlp"], ["heads", "mlp"], ["blocks"]], ids="+".join)
@pytest.mark.parametrize("method", ["magnitude", "wanda", "taylor"])
def test_scores_are_sums_over_the_weights_of_a_unit(name, units, method):
    if "heads" in units and name != "llama":
        units = ["mlp"]
    model, found, _, scores = planned(name, units, 0.4)
    tokens = shrunken.windows(4)
    if method == "magnitude":
        value_of = lambda linear: by_output(linear).square()  # noqa: E731
    elif method == "wanda":
        seen = {}
        handles = [
            m.register_forward_pre_hook(lambda m, a: seen.setdefault(m, []).append(a[0]))
            for m in prunable(model).values()
        ]
        with torch.no_grad():
            for window in tokens:
                model(window[None])
        for handle in handles:
            handle.remove()
        norms = {
            m: torch.cat([v.flatten(0, -2) for v in values]).double().square().mean(0).sqrt()
            for m, values in seen.items()
        }
        value_of = lambda linear: by_output(linear).abs() * norms[linear]  # noqa: E731
    else:
        own = build(name)
        for window in tokens:
            logits = own(window[None]).logits[0]
            loss = -logits.log_softmax(-1)[range(23), window[1:]].mean() / len(tokens)
            loss.backward()
        twins = dict(own.named_modules())
        gradients = {m: twins[n].weight.grad for n, m in model.named_modules() if n in twins
                     and hasattr(m, "weight")}  # fmt: skip

        def value_of(linear):
            product = (linear.weight.detach() * gradients[linear]).abs()
            return product.t() if type(linear).__name__ == "Conv1D" else product

    wanted = brute(name, model, found, value_of)
    given = scores(method, tokens)
    assert given.keys() == wanted.keys()
    for key, values in given.items():
        assert torch.allclose(values, torch.tensor(wanted[key]).double(), rtol=1e-4), key
        assert len(set(values.tolist())) > len(values) / 2


def test_taylor_leaves_the_model_and_its_gradients_alone():
    model, _, _, scores = planned("llama", ["mlp"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    needed = {name: p.requires_grad for name, p in model.named_parameters()}
    scores("taylor", shrunken.windows(2))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert {name: p.requires_grad for name, p in model.named_parameters()} == needed


def test_taylor_tells_what_the_loss_loses():
    """The signed sum of w·g over one neuron's output weights is the derivative of its scale."""
    model, found, _, _ = planned("llama", ["mlp"])
    tokens = shrunken.windows(3)
    grads = gradients(model, found.linears, tokens)
    down = model.model.layers[1].mlp.down_proj

    def loss():
        with torch.no_grad():
            logits = model.double()(tokens).logits[:, :-1]
            return float(cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()))

    weight = down.weight.data.clone().double()
    expected = float((weight[:, 5] * grads["model.layers.1.mlp.down_proj"][:, 5]).sum())
    model.double()
    losses = []
    for scale in (1.1, 0.9):
        down.weight.data[:, 5] = weight[:, 5] * scale
        losses.append(loss())
    assert (losses[0] - losses[1]) / 0.2 == pytest.approx(expected, rel=1e-2)


def test_the_lowest_go_and_of_equal_ones_the_first():
    _, found, counts, _ = planned("llama", ["mlp"], 0.3)
    values = torch.ones(32, dtype=torch.float64)
    values[[4, 30]] = 0.5
    scores = {("mlp", group.block): values for group in found.groups}
    removed = unit_scores.lowest_units(counts, scores)
    count = counts["mlp"]
    others = [unit for unit in range(32) if unit not in (4, 30)]
    expected = sorted([4, 30, *others[: count - 2]])
    assert all(units.tolist() == expected for units in removed.values())


def test_random_units_follow_the_seed_and_are_all_as_likely():
    drawn = torch.zeros(32)
    for seed in range(60):
        _, _, counts, scores = planned("llama", ["mlp"], 0.3)
        job = shrunken.job(None)
        job.seed = lambda purpose, seed=seed: seed
        removed, again = (
            unit_scores.lowest_units(counts, scores("random", job=job)) for _ in range(2)
        )
        for key, units in removed.items():
            assert torch.equal(units, again[key])
            drawn[units] += 1
    expected = counts["mlp"] / 32 * 180
    # Five standard deviations of a binomial.
    assert ((drawn - expected).abs() < 5 * (expected * (1 - expected / 180)) ** 0.5).all()


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
    for method, update in (("taylor", "none"), ("wanda", "none"), ("random", "least_squares")):
        with pytest.raises(PrunegridError, match="needs calibration samples"):
            shrunken.shrink(
                tmp_path / f"{method}-{update}",
                made("llama"),
                None,
                method=method,
                units=["mlp"],
                sparsity=0.3,
                update=update,
            )
