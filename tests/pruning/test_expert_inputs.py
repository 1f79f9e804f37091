"""What experts are given, what is pruned by it, and what becomes of those that no token reaches."""

import pytest
import torch
from torch import nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models import blocks
from prunegrid.models.experts import experts_of, one_by_one
from prunegrid.pruning import layerwise
from prunegrid.pruning.dense_statistics import dense_norms, stats_in_model
from prunegrid.pruning.expert_inputs import watching_experts
from prunegrid.pruning.holding import evaluating
from prunegrid.pruning.recipe import Recipe
from tests.helpers import expert_models
from tests.helpers.expert_models import MODELS, build, inputs_of, windows
from tests.helpers.rounding import close

pytestmark = pytest.mark.model

ALL = pytest.mark.parametrize("kind", MODELS)
FEW = pytest.mark.parametrize("kind", ["mixtral", "gpt_oss"])


def lowest_gone(name, scores, gone):
    """Check that of each row the lower half of the scores is gone, near-ties aside."""
    assert bool((gone.sum(1) == scores.shape[1] // 2).all()), name
    highest, lowest = scores.masked_fill(~gone, 0).amax(1), scores.masked_fill(gone, 1e9).amin(1)
    assert bool((highest <= lowest * (1 + 1e-4)).all()), name


@ALL
@torch.no_grad()
def test_norms_are_those_of_the_tokens_that_reach_each_expert(kind):
    model, tokens = build(kind), windows()
    norms = dense_norms(model, tokens)
    assert norms.keys() == blocks.prunable(model).keys()
    for name, given in inputs_of(model, kind, tokens).items():
        expected = given.square().mean(0) if len(given) else torch.ones(given.shape[1]).double()
        assert close(norms[name], expected, terms=2000), name


@ALL
@torch.no_grad()
def test_means_and_variances_are_those_of_the_tokens_that_reach_each_expert(kind):
    model, tokens = build(kind), windows()
    with evaluating(model):
        found = stats_in_model(model, blocks.prunable(model), tokens, "input_moments")
    for name, given in inputs_of(model, kind, tokens).items():
        width = given.shape[1]
        means, variances = torch.zeros(width).double(), torch.ones(width).double()
        if len(given):
            means, variances = given.double().mean(0), given.double().var(0, correction=0)
        magnitude = given.abs().double().mean(0) if len(given) else 1.0
        assert close(found[name].input_means, means, 2000, magnitude), name
        assert close(found[name].input_variances, variances, terms=2000), name


@ALL
@pytest.mark.parametrize("pattern", ["2:4", "unstructured"])
@torch.no_grad()
def test_wanda_prunes_each_expert_by_what_it_is_given(kind, pattern):
    """Block by block: the inputs are those that the pruned blocks before give."""
    model, tokens = build(kind), windows()
    pruned = build(kind)
    sparsity = 0.5 if pattern == "unstructured" else None
    report = layerwise.prune_model(
        pruned, Recipe("wanda", pattern, sparsity=sparsity), tokens=tokens
    )
    assert report.keys() == blocks.prunable(model).keys()
    for block in ("model.layers.0.", "model.layers.1."):
        after = expert_models.weights(pruned, kind)
        before = expert_models.weights(model, kind)
        for name, given in inputs_of(model, kind, tokens).items():
            if not name.startswith(block):
                continue
            assert report[name]["tokens"] == len(given)
            norms = given.square().mean(0).sqrt() if len(given) else torch.ones(given.shape[1])
            scores, gone = before[name].double().abs() * norms, after[name] == 0
            if pattern == "2:4":
                scores, gone = scores.reshape(-1, 4), gone.reshape(-1, 4)
            lowest_gone(name, scores, gone)
            assert torch.equal(before[name][after[name] != 0], after[name][after[name] != 0])
        mine = dict(model.named_parameters())
        for name, parameter in pruned.named_parameters():
            if name.startswith(block):
                mine[name].copy_(parameter)


@ALL
@torch.no_grad()
def test_routers_stay_dense(kind):
    model = build(kind)
    routers = {n: w.clone() for n, w in blocks.find_blocks(model).routers.items()}
    layerwise.prune_model(model, Recipe("magnitude", sparsity=0.5))
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], weight) for name, weight in routers.items())


@FEW
@torch.no_grad()
def test_sparsegpt_is_its_solution_for_the_tokens_of_each_expert(kind):
    """Algorithm 1 of the paper in float64, column by column, on the first block's experts."""
    model, tokens = build(kind), windows(samples=8)
    before = {n: w.double().clone() for n, w in expert_models.weights(model, kind).items()}
    given = inputs_of(model, kind, tokens)
    settings = {"dampening": 0.1}
    layerwise.prune_model(model, Recipe("sparsegpt", "2:4", settings=settings), tokens=tokens)
    for name, after in expert_models.weights(model, kind).items():
        inputs = given[name]
        if not name.startswith("model.layers.0.") or not len(inputs):
            continue
        weight, gone = before[name], after == 0
        hessian = 2 * inputs.t() @ inputs / len(inputs)
        hessian += 0.1 * hessian.diagonal().mean() * torch.eye(len(hessian))
        root = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
        for column in range(weight.shape[1]):
            if column % 4 == 0:
                part = slice(column, column + 4)
                scores = (weight[:, part] / root.diagonal()[part]).square()
                lowest_gone(name, scores, gone[:, part])
            error = weight[:, column] * gone[:, column] / root[column, column]
            weight[:, column:] -= error[:, None] * root[column, column:]
            weight[gone[:, column], column] = 0
        assert float((weight - after.double()).norm() / weight.norm()) < 1e-3, name


@FEW
@pytest.mark.parametrize("method", ["wanda", "ria", "sparsegpt", "alps", "admm"])
@torch.no_grad()
def test_an_expert_without_tokens_is_pruned_as_if_its_inputs_were_alike(kind, method):
    model = build(kind, num_experts_per_tok=1)
    expert_models.leave_unreached(model)
    before = {n: w.clone() for n, w in expert_models.weights(model, kind).items()}
    report = layerwise.prune_model(model, Recipe(method, "2:4"), tokens=windows())
    after = expert_models.weights(model, kind)
    unreached = {name for name in after if name.rpartition(".")[2] in "23"}
    assert {n for n, facts in report.items() if facts.get("tokens") == 0} == unreached
    assert all("no calibration token" in report[name]["fallbacks"][0] for name in unreached)
    for name in unreached:
        kept = after[name] != 0
        # Nothing is known of the inputs, so nothing is to be made up for.
        assert torch.allclose(after[name][kept], before[name][kept], rtol=1e-5)
        if method != "ria":
            lowest_gone(name, before[name].abs().reshape(-1, 4), ~kept.reshape(-1, 4))


@FEW
@pytest.mark.parametrize("propagation", ["single-pass", "dense"])
@torch.no_grad()
def test_other_propagations_prune_all_experts(kind, propagation):
    model, tokens = build(kind), windows()
    recipe = Recipe("sparsegpt", "2:4")
    report = layerwise.prune_model(model, recipe, tokens=tokens, propagation=propagation)
    for name, weight in expert_models.weights(model, kind).items():
        assert report[name]["zeros"] * 2 == weight.numel() == 2 * int((weight == 0).sum())


class Transposing(nn.Module):
    """Experts that say they are stored the other way round than they are."""

    is_transposed = True

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(3, 6, 6))
        self.second = nn.Parameter(torch.randn(3, 6, 6))

    def forward(self, x):
        return nn.functional.linear(nn.functional.linear(x, self.first[1]), self.second[1])


class Gathering(Transposing):
    """Experts whose matrices are copied before they are multiplied."""

    def forward(self, x):
        return x @ self.first[torch.tensor([1])][0] @ self.second[1]


class Together(Transposing):
    """Experts that are multiplied all at once; rows of zeros are of other experts."""

    def forward(self, x):
        return torch.bmm(torch.bmm(x, self.first), self.second)


@pytest.mark.parametrize("kind", [Transposing, Gathering])
@torch.no_grad()
def test_products_that_are_not_those_of_whole_matrices_are_refused(kind):
    module = kind()
    with (
        pytest.raises(PrunegridError, match="cannot be followed"),
        watching_experts(experts_of(module), lambda *_: None),
    ):
        module(torch.randn(5, 6))
    assert "forward" not in vars(module)


@torch.no_grad()
def test_of_a_product_with_all_experts_at_once_each_gets_its_own_tokens():
    module, seen = Together(), {}
    x = torch.zeros(3, 4, 6)
    x[0, :2], x[2, 1:] = torch.randn(2, 6), torch.randn(3, 6)
    with watching_experts(experts_of(module), lambda n, args: seen.setdefault(n, args[0])):
        module(x)
    assert {name: len(inputs) for name, inputs in seen.items()} == {
        "first.0": 2, "first.2": 3, "second.0": 2, "second.2": 3,
    }  # fmt: skip
    assert torch.equal(seen["first.2"], x[2, 1:])


@torch.no_grad()
def test_a_watch_inside_another_gives_the_forward_back():
    module, outer, inner = Together(), [], []
    linears = experts_of(module)
    x = torch.randn(3, 2, 6)
    with watching_experts(linears, lambda name, _: outer.append(name)):
        with watching_experts(linears, lambda name, _: inner.append(name)):
            module(x)
        module(x)
    module(x)
    assert sorted(inner) == sorted(linears)
    assert sorted(outer) == sorted([*linears, *linears])
    assert "forward" not in vars(module)


def test_experts_run_one_by_one_only_inside_the_context():
    model = build("mixtral")
    before = model.get_experts_implementation()
    with one_by_one(model):
        assert set(model.get_experts_implementation().values()) == {"eager"}
    assert model.get_experts_implementation() == before
