"""Scores of units by oracles, and that the lowest go."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import prunable
from prunegrid.pruning.structured import removal_plan, unit_scores
from prunegrid.pruning.structured.unit_scores import gradients
from prunegrid.pruning.structured.units import find_units
from tests.helpers import shrunken
from tests.helpers.architectures import ARCHITECTURES, build, by_output
from tests.helpers.shrunken import NAMES

pytestmark = pytest.mark.model


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

        def value_of(linear):
            return by_output(linear).square()

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

        def value_of(linear):
            return by_output(linear).abs() * norms[linear]

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


@pytest.mark.parametrize(
    "name", [n for n, made in ARCHITECTURES.items() if made.auto != "AutoModelForSeq2SeqLM"]
)
@torch.no_grad()
def test_influence_is_how_far_a_block_turns_its_hidden_states(name):
    """By hooks on the blocks of the table, and cosines in float64, token by token."""
    model, tokens = build(name), shrunken.windows(3)
    seen = {block: [] for block in ARCHITECTURES[name].names()}

    def look(block):
        def hook(_module, args, kwargs, output):
            entering = args[0] if args else kwargs["hidden_states"]
            leaving = output if isinstance(output, torch.Tensor) else output[0]
            for x, y in zip(entering[0].double(), leaving[0].double(), strict=True):
                seen[block].append(float(1 - x @ y / (x.norm() * y.norm())))

        return hook

    handles = [
        model.get_submodule(block).register_forward_hook(look(block), with_kwargs=True)
        for block in seen
    ]
    for window in tokens:
        model(window[None])
    for handle in handles:
        handle.remove()
    found = find_units(model, ["blocks"], tokens[:1, :8])
    asked = shrunken.settings("influence", ["blocks"], 0.4)
    scores = unit_scores.score_units(found, asked, tokens, shrunken.job(None))
    assert scores.keys() == {("blocks", block) for block in seen}
    for (_, block), score in scores.items():
        expected = sum(seen[block]) / tokens.numel()
        assert score.tolist() == pytest.approx([expected], rel=1e-5) and expected > 0, block


@torch.no_grad()
def test_a_block_that_changes_nothing_has_no_influence_and_goes_first():
    model, tokens = build("llama"), shrunken.windows(2)
    idle = model.model.layers[1]
    idle.self_attn.o_proj.weight.zero_()
    idle.mlp.down_proj.weight.zero_()
    found = find_units(model, ["blocks"], tokens[:1, :8])
    asked = shrunken.settings("influence", ["blocks"], 0.4)
    scores = unit_scores.score_units(found, asked, tokens, shrunken.job(None))
    assert float(scores["blocks", "model.layers.1"]) == pytest.approx(0, abs=1e-6)
    assert unit_scores.lowest_blocks_first(scores)[0] == 1


def test_hidden_states_that_are_not_finite_are_told():
    model, tokens = build("llama"), shrunken.windows(1)
    model.model.layers[1].mlp.down_proj.weight.data[0] = torch.inf
    found = find_units(model, ["blocks"], tokens[:1, :8])
    asked = shrunken.settings("influence", ["blocks"], 0.4)
    with pytest.raises(PrunegridError, match="activations") as caught:
        unit_scores.score_units(found, asked, tokens, shrunken.job(None))
    assert caught.value.where == "model.layers.1"
