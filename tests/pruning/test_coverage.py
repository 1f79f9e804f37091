"""What stays dense: refused unasked, left alone by choice, and counted apart."""

import fnmatch
import logging

import pytest
import torch
from torch import nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import find_blocks, prunable
from prunegrid.models.prunable import Extent
from prunegrid.pruning.coverage import left_dense, settled
from prunegrid.pruning.dense_statistics import StoredHessians, dense_norms, write_hessians
from prunegrid.pruning.layerwise import prune_model
from prunegrid.pruning.pruner import UNREACHED, Pruner
from prunegrid.pruning.recipe import Recipe
from prunegrid.pruning.structured.unit_scores import score_units
from prunegrid.pruning.structured.units import find_units
from tests.helpers import architectures
from tests.helpers.odd_models import build, kinds

pytestmark = pytest.mark.model


@pytest.fixture
def tokens():
    return torch.randint(3, 64, (3, 16), generator=torch.Generator().manual_seed(0))


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def excluding(*patterns, **named):
    return Recipe(**named, extent=Extent(exclude=patterns))


@pytest.mark.parametrize("name", ["dbrx", "recurrent-gemma", "convbert"])
def test_matrices_in_no_linear_are_refused_by_name_shape_and_share(name):
    model = build(name)
    before, expected = weights_of(model), kinds(name, model)
    with pytest.raises(PrunegridError, match="stay dense unasked") as caught:
        prune_model(model, Recipe("magnitude", sparsity=0.5))
    total = sum(w.numel() for named in expected.values() for w in named.values())
    share = sum(w.numel() for w in expected["others"].values()) / total
    assert f"{share:.1%}" in caught.value.what
    for full, weight in expected["others"].items():
        leaf = full.rpartition(".")[2]
        assert leaf in caught.value.what and str(list(weight.shape)) in caught.value.what
    assert "`exclude`" in caught.value.remedy and "allow_unprunable" in caught.value.remedy
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["dbrx", "recurrent-gemma"])
@pytest.mark.parametrize("way", ["allowed", "excluded"])
def test_with_leave_the_linears_lose_exactly_what_is_asked(name, way):
    model = build(name)
    before, expected = weights_of(model), kinds(name, model)
    recipe = Recipe("magnitude", sparsity=0.5, allow_unprunable=True)
    if way == "excluded":
        recipe = excluding(*expected["others"], method="magnitude", sparsity=0.5)
    prune_model(model, recipe)
    after = model.state_dict()
    zeros = sum(int((after[key] == 0).sum()) for key in expected["linears"])
    assert zeros == sum(w.numel() for w in expected["linears"].values()) // 2
    for key in before.keys() - expected["linears"].keys():
        assert torch.equal(before[key], after[key]), key


class Block(nn.Module):
    """A linear, and a stack of matrices that is a share of the block's weights."""

    def __init__(self, stack):
        super().__init__()
        self.linear, self.unused = nn.Linear(40, 40), nn.Linear(40, 2)
        self.stack = nn.Parameter(torch.randn(stack))

    def forward(self, hidden):
        return self.linear(hidden) + self.stack.mean()


class Stacked(nn.Module):
    def __init__(self, stack):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(64, 40)
        self.layers = nn.ModuleList(Block(stack) for _ in range(2))

    def forward(self, tokens):
        hidden = self.embed(tokens)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


def test_up_to_two_in_a_hundred_are_told_and_no_more(caplog):
    """Of 1680 + n weights a block 32 are 1.9%, 36 are 2.1%."""
    with caplog.at_level(logging.WARNING):
        prune_model(Stacked((2, 4, 4)), Recipe("magnitude", sparsity=0.5))
    assert "layers.*.stack [2, 4, 4] × 2" in caplog.text
    with pytest.raises(PrunegridError, match="2.1%"):
        prune_model(Stacked((2, 3, 6)), Recipe("magnitude", sparsity=0.5))


def test_a_few_weights_that_are_never_called_stay_dense(tokens):
    model = Stacked((1, 1, 2))
    with pytest.raises(PrunegridError, match="4.8%.*layers.*unused"):
        prune_model(model, Recipe("wanda", sparsity=0.5), tokens=tokens)
    for layer in model.layers:
        layer.unused = nn.Linear(32, 1)
    before = weights_of(model)
    recipe = settled(model, Recipe("wanda", sparsity=0.5), None, tokens)
    assert recipe.extent.uncalled == ("layers.0.unused", "layers.1.unused")
    report = prune_model(model, Recipe("wanda", sparsity=0.5), tokens=tokens)
    assert report.keys() == {"layers.0.linear", "layers.1.linear"}
    for index in range(2):
        key = f"layers.{index}.unused.weight"
        assert torch.equal(before[key], model.state_dict()[key])


@pytest.mark.parametrize("name", ["falcon-mamba", "led"])
@pytest.mark.parametrize("method", ["wanda", "sparsegpt", "ria"])
def test_linears_that_are_never_called_are_named_and_can_be_excluded(name, method, tokens):
    model = build(name)
    before, expected = weights_of(model), kinds(name, model)
    with pytest.raises(PrunegridError, match="never called") as caught:
        prune_model(model, Recipe(method, sparsity=0.5), tokens=tokens)
    ends = {key.removesuffix(".weight").rpartition(".")[2] for key in expected["uncalled"]}
    assert all(end in caught.value.what for end in ends) and "`exclude`" in caught.value.remedy
    recipe = excluding(*(f"*.{end}" for end in ends), method=method, sparsity=0.5)
    report = prune_model(model, recipe, tokens=tokens)
    assert {f"{linear}.weight" for linear in report} == expected["linears"].keys()
    for key in expected["uncalled"]:
        assert torch.equal(before[key], model.state_dict()[key])


def test_a_method_that_needs_no_inputs_prunes_what_is_never_called():
    model = build("falcon-mamba")
    report = prune_model(model, Recipe("magnitude", "2:4", extent=Extent(exclude=("*.dt_proj",))))
    assert not any(name.endswith("dt_proj") for name in report)
    report = prune_model(model, Recipe("magnitude", sparsity=0.5))
    assert any(name.endswith("dt_proj") for name in report)


def test_an_allocation_that_needs_norms_leaves_out_those_without(tokens):
    model = build("falcon-mamba")
    norms = dense_norms(model, tokens)
    assert not any(name.endswith("dt_proj") for name in norms)
    recipe = Recipe("magnitude", sparsity=0.5, allocation="owl", allow_unprunable=True)
    report = prune_model(model, recipe, norms=norms)
    assert report.keys() == norms.keys()
    zeros = sum(facts["zeros"] for facts in report.values())
    assert zeros == sum(a * b for a, b in (f["shape"] for f in report.values())) // 2


PATTERNS = ("model.layers.1.*", "*.down_proj")
WAYS = [
    *(("wanda", way, {}) for way in ("sequential", "single-pass", "dense")),
    *(("sparsegpt", way, {}) for way in ("sequential", "single-pass", "dense")),
    ("magnitude", "sequential", {"scope": "model"}),
    ("magnitude", "sequential", {"allocation": "error"}),
    ("wanda", "sequential", {"allocation": "owl"}),
    ("wanda", "sequential", {"pattern": "2:4", "sparsity": None}),
    ("ria", "sequential", {"update": "least_squares"}),
]


@pytest.mark.parametrize("method, propagation, changes", WAYS)
def test_what_is_excluded_keeps_its_bytes_in_every_way(
    method, propagation, changes, tokens, tmp_path
):
    """A whole block and a linear of each; the counts of the others are exact."""
    model = architectures.build("llama")
    norms, before = dense_norms(model, tokens), weights_of(model)
    named = {"sparsity": 0.6, **changes}
    recipe = excluding(*PATTERNS, method=method, **named)
    inputs = {"tokens": tokens, "norms": norms, "propagation": propagation}
    if recipe.needs == "hessian" and propagation == "dense":
        write_hessians(model, tokens, tmp_path)
        inputs["hessians"] = StoredHessians(tmp_path)
    report = prune_model(model, recipe, **inputs)
    out = {n for n in prunable(model) if any(fnmatch.fnmatch(n, p) for p in PATTERNS)}
    assert out and report.keys() == prunable(model).keys() - out
    changed = {f"{name}.weight" for name in report}
    for key, value in model.state_dict().items():
        assert torch.equal(before[key], value) == (key not in changed), key
    sizes = {name: prunable(model)[name].weight.numel() for name in report}
    zeros = sum(int((prunable(model)[name].weight == 0).sum()) for name in report)
    share = (5, 10) if recipe.pattern == "2:4" else (6, 10)
    assert zeros == share[0] * sum(sizes.values()) // share[1]


def test_others_lose_the_same_weights_as_without_the_exclusion():
    """By rows each linear is ranked by itself, so that those before the exclusion are the same."""
    ours, theirs = architectures.build("opt-125m"), architectures.build("opt-125m")
    prune_model(ours, Recipe("magnitude", sparsity=0.5, scope="row"))
    prune_model(theirs, excluding("*.fc?", method="magnitude", sparsity=0.5, scope="row"))
    for name, linear in prunable(theirs).items():
        same = torch.equal(prunable(ours)[name].weight, linear.weight)
        assert same == (".fc" not in name), name


@pytest.mark.parametrize("pattern, near", [("*.q_porj", "*.q_proj"), ("*mlp.gate", "*.gate_proj")])
def test_a_pattern_that_names_nothing_is_told_with_the_nearest(pattern, near):
    with pytest.raises(PrunegridError, match="names no linear") as caught:
        recipe = excluding(pattern, method="magnitude", sparsity=0.5)
        prune_model(architectures.build("llama"), recipe)
    assert f"did you mean '{near}'" in caught.value.remedy


def test_to_exclude_all_is_refused():
    with pytest.raises(PrunegridError, match="leaves no linear"):
        find_blocks(architectures.build("gpt2"), exclude=("*",))


def test_patterns_may_overlap_name_routers_and_projections():
    model = build("switch")
    found = find_blocks(model, exclude=("*.wi", "*.wi", "*.router.classifier"))
    assert all(name.endswith(".wi") for name in found.excluded)
    assert found.routers and not any(name.endswith(".wi") for name in found.all_linears())
    both = find_blocks(
        architectures.build("opt-350m"), include=("*.project_*",), exclude=("*.project_in",)
    )
    assert set(both.outside) == {"model.decoder.project_out"} and not both.excluded


def test_the_kinds_that_stay_dense_are_listed_with_their_shapes():
    model = build("dbrx")
    expected = kinds("dbrx", model)
    found = left_dense(Extent(exclude=("*.out_proj",)), model)
    assert found["unprunable"] == {n: list(w.shape) for n, w in expected["others"].items()}
    assert found["routers"] == {n: list(w.shape) for n, w in expected["routers"].items()}
    assert found["excluded"].keys() == {
        f"transformer.blocks.{i}.norm_attn_norm.attn.out_proj" for i in range(2)
    }
    assert not found["uncalled"]


def test_a_linear_that_lost_its_inputs_is_pruned_by_its_weights(caplog):
    """Reached in the dense model, and no more once others were pruned."""
    torch.manual_seed(0)
    for method in ("wanda", "sparsegpt", "ria", "alps", "admm"):
        linear = nn.Linear(16, 8)
        before = linear.weight.detach().clone()
        pruner = Pruner(Recipe(method, "2:4"), {})
        with torch.no_grad(), caplog.at_level(logging.WARNING):
            pruner.prune_all({"a": linear}, {})
        kept = linear.weight != 0
        assert torch.equal(linear.weight[kept], before[kept])
        assert pruner.report["a"]["fallbacks"] == [UNREACHED] and "a: " in caplog.text
        if method != "ria":
            groups = before.abs().reshape(-1, 4)
            highest = groups.topk(2, dim=1).indices
            assert kept.reshape(-1, 4).gather(1, highest).all()


def test_a_weight_that_blocks_share_is_pruned_once_and_seen_by_all_its_inputs(tokens):
    model = build("zamba2")
    twins = find_blocks(model).twins
    modules = {**prunable(model), **{name: module for name, (_, module) in twins.items()}}
    given = architectures.inputs_of(model, modules, tokens)
    norms = dense_norms(model, tokens)
    assert norms.keys() == prunable(model).keys()
    for name in norms:
        names = [name, *(twin for twin, (first, _) in twins.items() if first == name)]
        inputs = torch.cat([part for own in names for part in given[own]]).double()
        torch.testing.assert_close(norms[name].double(), inputs.square().mean(0), rtol=1e-4, atol=0)
    assert settled(model, Recipe("wanda", "2:4"), None, tokens).extent.uncalled == ()
    for method in ("wanda", "sparsegpt"):
        with pytest.raises(PrunegridError, match="share the weights.*propagation: dense"):
            prune_model(model, Recipe(method, "2:4"), tokens=tokens, norms=norms)
    report = prune_model(model, Recipe("wanda", "2:4"), norms=norms, propagation="dense")
    assert report.keys() == norms.keys()


@torch.no_grad()
def test_what_is_never_called_adds_nothing_to_the_score_of_a_unit(tokens):
    model = build("falcon-mamba")
    units, norms = find_units(model, ["blocks"], tokens[:1, :8]), dense_norms(model, tokens)
    scores = score_units(units, {"method": "wanda"}, tokens, None)
    for block, linears in units.blocks.linears.items():
        reached = [(linears[name].weight, norms[name]) for name in linears if name in norms]
        assert len(reached) < len(linears)
        expected = sum(float((w.abs() * x.sqrt()).sum()) for w, x in reached)
        assert float(scores["blocks", block]) == pytest.approx(expected, rel=1e-5)
