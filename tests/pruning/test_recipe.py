"""Allocations, updates and whole-model scope: exact counts, brute-force oracles, order of merit."""

import gc
import math
import weakref
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks
from prunegrid.pruning import prune_weight
from prunegrid.pruning.allocation import error, owl
from prunegrid.pruning.allocation.counts import exact_zeros, ranked_zeros
from prunegrid.pruning.input_stats import Accumulator
from prunegrid.pruning.patterns import NM, Unstructured, keep_mask
from prunegrid.pruning.pruner import Pruner
from prunegrid.pruning.recipe import Recipe
from prunegrid.pruning.updates import least_squares, none, sparsegpt

few = settings(max_examples=15, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def layer(seed=0, rows=10, columns=24, tokens=60):
    """Return a weight, inputs that are correlated, and their statistics."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=draw)
    mix = torch.eye(columns) + 0.3 * torch.randn(columns, columns, generator=draw)
    inputs = torch.randn(tokens, columns, generator=draw) @ mix
    sums = Accumulator("hessian", columns)
    sums.add(inputs, "here")
    return weight, inputs, sums.finish()


def model(seed=0, shapes=((8, 12), (6, 8), (5, 12), (9, 5))):
    """Return Blocks of two blocks with two linears each, and norms of their inputs."""
    torch.manual_seed(seed)
    linears = [nn.Linear(columns, rows) for rows, columns in shapes]
    named = {f"b.{i // 2}": {} for i in range(4)}
    for i, linear in enumerate(linears):
        linear.weight.data *= 1 + i
        named[f"b.{i // 2}"][f"b.{i // 2}.l{i}"] = linear
    norms = {n: torch.rand(m.in_features) + 0.1 for ls in named.values() for n, m in ls.items()}
    return Blocks(list(named), [nn.Module(), nn.Module()], named), norms


@pytest.mark.parametrize("update", [None, "sparsegpt", "least_squares"])
@pytest.mark.parametrize("method", ["magnitude", "wanda", "ria", "sparsegpt", "alps", "admm"])
def test_a_pruned_linear_leaves_nothing_in_memory(method, update):
    """Not until some garbage collection, either: a block's Hessians must go with the block."""
    weight, _, stats = layer(columns=160)
    pruner = Pruner(Recipe(method, "2:4", update=update), {})
    gc.collect()
    before = {id(found) for found in gc.get_objects() if type(found) is torch.Tensor}
    gc.disable()
    try:
        linear = nn.Linear(*weight.shape[::-1])
        seen = weakref.ref(stats.hessian)
        pruner.pruned("l", linear, stats)
        del stats, linear
        left = [t for t in gc.get_objects() if type(t) is torch.Tensor and id(t) not in before]
        assert seen() is None and not left
    finally:
        gc.enable()


@given(
    st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1)), min_size=1, max_size=8),
    st.integers(0, 100).map(lambda n: n / 100),
)
@settings(max_examples=150)
def test_counts_add_up_exactly_whatever_is_wanted(wanted, sparsity):
    sizes = {f"l{i}": size for i, (size, _) in enumerate(wanted)}
    shares = {f"l{i}": share for i, (_, share) in enumerate(wanted)}
    zeros = exact_zeros(shares, sizes, sparsity)
    assert sum(zeros.values()) == math.floor(Fraction(str(sparsity)) * sum(sizes.values()))
    assert all(0 <= zeros[name] <= sizes[name] for name in sizes)


def test_counts_that_add_up_already_are_left_alone():
    assert exact_zeros({"a": 0.25, "b": 0.75}, {"a": 40, "b": 40}, 0.5) == {"a": 10, "b": 30}


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=12), min_size=1), st.data())
@settings(max_examples=60)
def test_ranked_counts_are_those_of_one_stable_sort(rows, data):
    scores = {str(i): torch.tensor(row, dtype=torch.float32) * 0.37 for i, row in enumerate(rows)}
    flat = [(float(v), i) for i, row in scores.items() for v in row]
    count = data.draw(st.integers(0, len(flat)))
    order = sorted(range(len(flat)), key=lambda place: (flat[place][0], place))[:count]
    expected = {name: sum(flat[place][1] == name for place in order) for name in scores}
    assert ranked_zeros(scores, scores.__getitem__, count) == expected


@pytest.mark.parametrize("sparsity", [0.0, 0.31, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("allocation", ["uniform", "owl", "error", "alpha"])
@pytest.mark.parametrize("method", ["magnitude", "wanda", "ria", "sparsegpt", "alps", "admm"])
def test_the_whole_models_sparsity_is_exact(method, allocation, sparsity):
    blocks, norms = model()
    recipe = Recipe(method, sparsity=sparsity, allocation=allocation)
    pruner = Pruner(recipe, recipe.zeros(blocks, norms))
    found = total = 0
    for linears in blocks.linears.values():
        for name, linear in linears.items():
            sums = Accumulator("hessian", linear.in_features)
            sums.add(torch.randn(50, linear.in_features), name)
            pruned = pruner.pruned(name, linear, sums.finish())
            found, total = found + int((pruned == 0).sum()), total + pruned.numel()
    assert found == math.floor(Fraction(str(sparsity)) * total)


def test_scope_model_is_one_ranking_of_all_weights():
    blocks, _ = model()
    recipe = Recipe("magnitude", sparsity=0.6, scope="model")
    pruner = Pruner(recipe, recipe.zeros(blocks, None))
    linears = {name: m for ls in blocks.linears.values() for name, m in ls.items()}
    every = torch.cat([m.weight.detach().abs().flatten() for m in linears.values()])
    cut = every.sort().values[int(0.6 * len(every)) - 1]
    for name, linear in linears.items():
        pruned = pruner.pruned(name, linear, None)
        assert torch.equal(pruned == 0, linear.weight.detach().abs() <= cut)


def test_owl_is_the_papers_formula():
    blocks, norms = model()
    weights = {b: {n: m.weight.detach() for n, m in ls.items()} for b, ls in blocks.linears.items()}
    # One outlier more in the second block.
    weights["b.1"]["b.1.l2"][0, :3] = 60.0
    ratios = []
    for linears in weights.values():
        scores = torch.cat([(w.abs() * norms[n].sqrt()).flatten() for n, w in linears.items()])
        ratios.append(float((scores > 3 * scores.mean()).float().mean()))
    assert ratios[1] != ratios[0]
    wanted = owl.allocate(weights, 0.7, norms, multiple=3.0, shift=0.1)
    kept = [(r - min(ratios)) / (max(ratios) - min(ratios)) * 0.2 for r in ratios]
    expected = [0.7 + sum(kept) / 2 - k for k in kept]
    for share, block in zip(expected, weights, strict=True):
        assert all(wanted[name] == pytest.approx(share) for name in weights[block])


def test_the_error_allocation_loses_less_than_uniform():
    blocks, norms = model(shapes=((40, 64), (40, 64), (40, 64), (40, 64)))
    weights = {b: {n: m.weight.detach() for n, m in ls.items()} for b, ls in blocks.linears.items()}
    # Half of one linear is nearly nothing: it can go at no cost.
    weights["b.0"]["b.0.l1"][:20] *= 1e-3

    def loss(shares):
        total = 0.0
        for linears in weights.values():
            for name, weight in linears.items():
                errors = (weight.square() * norms[name]).flatten().sort().values
                count = round(shares[name] * errors.numel())
                total += float(errors[:count].sum() / errors.sum())
        return total

    flat = {name: 0.5 for linears in weights.values() for name in linears}
    wanted = error.allocate(weights, 0.5, norms, shift=0.2)
    mean = sum(wanted.values()) / 4
    assert mean == pytest.approx(0.5, abs=1e-3)
    assert max(wanted, key=wanted.get) == "b.0.l1"
    assert all(0.3 <= share <= 0.7 for share in wanted.values())
    assert loss(wanted) < 0.9 * loss(flat)
    # Moving weights from any linear to any other does not help: the optimum within the bounds.
    for giver in wanted:
        for taker in wanted:
            moved = dict(wanted)
            moved[giver], moved[taker] = moved[giver] + 0.02, moved[taker] - 0.02
            if giver != taker and max(moved.values()) <= 0.7 and min(moved.values()) >= 0.3:
                assert loss(moved) > loss(wanted) - 1e-3


def rows_by_brute_force(weight, kept, hessian):
    """The least-squares weights of each row, by its own linear system in float64."""
    solved = torch.zeros_like(weight, dtype=torch.float64)
    hessian = hessian.double()
    for i, row in enumerate(weight.double()):
        places = kept[i].nonzero()[:, 0]
        target = hessian[places] @ row
        solved[i, places] = torch.linalg.solve(hessian[places][:, places], target)
    return solved


def damped(stats, dampening=0.01):
    hessian = stats.hessian.clone()
    hessian.diagonal().add_(dampening * float(hessian.diagonal().mean()))
    return hessian


@pytest.mark.parametrize("pattern", [NM(2, 4), Unstructured(0.6, "layer")])
@given(seed=seeds)
@few
def test_least_squares_solves_every_row(pattern, seed):
    weight, _, stats = layer(seed)
    kept = keep_mask(weight.abs(), pattern)
    found, facts = least_squares.update_linear(weight, kept, stats, iterations=200, tolerance=1e-6)
    expected = rows_by_brute_force(weight, kept, damped(stats))
    assert torch.allclose(found.double(), expected, atol=1e-3)
    assert not found[~kept].any()
    assert facts["residual"] <= 1e-6 or facts["iterations"] == 200


def correlated(tokens, columns=96):
    """Return a weight, a 2:4 mask of it, and statistics of inputs of falling variance, rotated."""
    draw = torch.Generator().manual_seed(0)
    turn, _ = torch.linalg.qr(torch.randn(columns, columns, generator=draw))
    sizes = 100 / torch.arange(1, columns + 1)
    inputs = Accumulator("hessian", columns)
    inputs.add(torch.randn(tokens, columns, generator=draw) * sizes @ turn.t(), "x")
    weight = torch.randn(40, columns, generator=draw)
    return weight, keep_mask(weight.abs(), NM(2, 4)), inputs.finish()


def test_least_squares_takes_few_steps():
    """By H's diagonal alone it would take 25."""
    _, facts = least_squares.update_linear(*correlated(tokens=400))
    assert facts["iterations"] <= 16 and facts["residual"] <= 1e-3


def test_least_squares_without_a_cholesky_factor_goes_on_by_the_diagonal():
    weight, kept, stats = correlated(tokens=20)  # fewer than columns
    assert int(torch.linalg.cholesky_ex(stats.hessian).info) > 0
    found, _ = least_squares.update_linear(weight, kept, stats, dampening=0.0)
    errors = [(((w - weight) @ stats.hessian) * (w - weight)).sum() for w in (found, weight * kept)]
    assert found.isfinite().all() and (found[~kept] == 0).all() and errors[0] < errors[1]


@given(seed=seeds)
@few
def test_updates_lower_the_error_in_the_order_of_their_freedom(seed):
    weight, inputs, stats = layer(seed)
    kept = keep_mask(weight.abs(), Unstructured(0.5, "row"))
    hessian = damped(stats)
    losses = {}
    for update in (none, sparsegpt, least_squares):
        found, _ = update.update_linear(weight, kept, stats)
        assert not found[~kept].any()
        change = found - weight
        losses[update.__name__.rpartition(".")[2]] = float(((change @ hessian) * change).sum())
    assert losses["least_squares"] <= losses["sparsegpt"] * 1.001
    assert losses["sparsegpt"] < losses["none"]


def test_an_update_keeps_the_weights_where_nothing_was_pruned():
    weight, _, stats = layer()
    kept = torch.ones_like(weight, dtype=torch.bool)
    for update in (none, sparsegpt, least_squares):
        found, _ = update.update_linear(weight, kept, stats)
        assert torch.allclose(found, weight, atol=1e-6)
        nothing, _ = update.update_linear(weight, ~kept, stats)
        assert not nothing.any()


def test_sparsegpts_update_of_its_own_mask_is_sparsegpt():
    weight, inputs, stats = layer()
    own = prune_weight(weight, "sparsegpt", "2:4", inputs=inputs)
    found, _ = sparsegpt.update_linear(weight, own != 0, stats)
    assert torch.allclose(found, own, atol=1e-4)


def test_wandas_mask_with_an_update_is_a_recipe():
    weight, inputs, stats = layer()
    linear = SimpleNamespace(weight=weight)
    plain = prune_weight(weight, "wanda", "2:4", inputs=inputs)
    recipe = Recipe("wanda", "2:4", update="sparsegpt")
    assert recipe.needs == "hessian"
    found = Pruner(recipe, {}).pruned("l", linear, stats)
    assert torch.equal(found == 0, plain == 0)
    assert not torch.equal(found, plain)


def test_dead_inputs_are_left_alone_by_updates():
    weight, inputs, _ = layer()
    inputs[:, 3] = 0
    sums = Accumulator("hessian", weight.shape[1])
    sums.add(inputs, "here")
    kept, stats = keep_mask(weight.abs(), Unstructured(0.5, "row")), sums.finish()
    for update in (sparsegpt, least_squares):
        found, _ = update.update_linear(weight, kept, stats)
        assert torch.isfinite(found).all()
        assert not found[~kept].any()


def test_ria_counts_shares_of_rows_and_columns():
    weight, inputs, stats = layer()
    size = weight.abs()
    norm = inputs.square().mean(0).sqrt()
    score = size / size.sum(1, keepdim=True) + size / size.sum(0, keepdim=True)
    expected = keep_mask(score * norm.sqrt(), Unstructured(0.5, "layer"))
    found = prune_weight(weight, "ria", "unstructured", sparsity=0.5, inputs=inputs)
    assert torch.equal(found != 0, expected)
    flat = prune_weight(weight, "ria", "2:4", inputs=inputs, exponent=0.0)
    assert torch.equal(flat != 0, keep_mask(score, NM(2, 4)))


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (Recipe("wanda", sparsity=0.5, scope="model"), "no scope 'model'"),
        (Recipe("magnitude", sparsity=0.5, allocation="owl"), "needs calibration samples"),
    ],
)
def test_refused(recipe, said):
    blocks, _ = model()
    with pytest.raises(PrunegridError, match=said):
        recipe.zeros(blocks, None)
