"""Swaps: brute force agrees swap by swap, the error never rises, counts stay."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunegrid.common.errors import PrunegridError
from prunegrid.pruning.criteria import magnitude, wanda
from prunegrid.pruning.input_stats import Accumulator, InputStats
from prunegrid.pruning.patterns import keep_mask, parse_pattern
from prunegrid.pruning.pruner import Pruner
from prunegrid.pruning.recipe import Recipe
from prunegrid.pruning.refine import swaps

PATTERNS = {
    "2:4": parse_pattern("2:4"),
    "1:4": parse_pattern("1:4"),
    "4:8": parse_pattern("4:8"),
    "row": parse_pattern("unstructured", 0.6, "row"),
    "layer": parse_pattern("unstructured", 0.5, "layer"),
}
few = settings(max_examples=20, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def layer(seed=0, rows=8, columns=24, tokens=80):
    """Return a weight and the statistics of correlated inputs."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=draw)
    mix = torch.eye(columns) + 0.4 * torch.randn(columns, columns, generator=draw)
    sums = Accumulator("hessian", columns)
    sums.add(torch.randn(tokens, columns, generator=draw) @ mix, "here")
    return weight, sums.finish()


def errors(weight, kept, stats):
    """Return each row's error, in float64."""
    gone = (weight * ~kept).double()
    return ((gone @ stats.hessian.double()) * gone).sum(1)


def by_force(weight, kept, gram, group, most=10_000):
    """Return one row's mask after the best swap of all, again and again, and their number."""
    weight, gram, kept = weight.double(), gram.double(), kept.clone()

    def error(mask):
        gone = weight * ~mask
        return float(gone @ gram @ gone)

    first = error(kept)
    for swap in range(most):
        found = {}
        for p in kept.nonzero()[:, 0].tolist():
            for u in (~kept & (weight != 0)).nonzero()[:, 0].tolist():
                if group is None or p // group == u // group:
                    trial = kept.clone()
                    trial[p], trial[u] = False, True
                    found[p, u] = error(trial)
        best = min(found, key=found.get, default=None)
        if best is None or found[best] - error(kept) >= -swaps.GAIN * first:
            return kept, swap
        kept[best[0]], kept[best[1]] = False, True
    return kept, most


@pytest.mark.parametrize("pattern", PATTERNS)
@given(seeds)
@few
def test_brute_force_makes_the_same_swaps(pattern, seed):
    weight, stats = layer(seed, rows=5, columns=16)
    kept = keep_mask(weight.abs(), PATTERNS[pattern])
    group = int(pattern[-1]) if ":" in pattern else None
    for most in (0, 1, 2, 1000):
        limits = {"max_swaps": most, "candidates": weight.shape[1]}
        found, facts = swaps.refine_mask(weight, kept, stats, PATTERNS[pattern], **limits)
        made = 0
        for row, mask, refined in zip(weight, kept, found, strict=True):
            wanted, number = by_force(row, mask, stats.hessian, group, most)
            assert torch.equal(refined, wanted)
            made += number
        assert facts["swaps"] == made


@pytest.mark.parametrize("candidates", [1, 4, 32])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("criterion", [magnitude, wanda])
def test_the_error_falls_and_counts_stay(pattern, criterion, candidates):
    weight, stats = layer(3, rows=70, columns=64, tokens=300)
    pattern = PATTERNS[pattern]
    kept = criterion.prune_linear(weight, stats, pattern)[0] != 0
    found, facts = swaps.refine_mask(weight, kept, stats, pattern, candidates=candidates)
    before, after = errors(weight, kept, stats), errors(weight, found, stats)
    assert (after <= before * (1 + 1e-6)).all() and after.sum() < before.sum()
    assert torch.equal(found.sum(1), kept.sum(1))
    if hasattr(pattern, "group"):
        count = found.view(len(found), -1, pattern.group).sum(2)
        assert (count == pattern.keep).all()
    assert facts["swaps"] and not facts["cut_short"]
    whole = errors(weight, torch.zeros_like(kept), stats).sum()
    assert facts["error_before"] == pytest.approx(float(before.sum() / whole), rel=1e-3)
    assert facts["error_after"] == pytest.approx(float(after.sum() / whole), rel=1e-3)


def test_it_ends_where_no_swap_helps():
    weight, stats = layer(4, rows=12, columns=32)
    found, _ = swaps.refine_mask(
        weight, keep_mask(weight.abs(), PATTERNS["2:4"]), stats, PATTERNS["2:4"]
    )
    again, facts = swaps.refine_mask(weight, found, stats, PATTERNS["2:4"])
    assert torch.equal(again, found) and facts["swaps"] == 0
    assert facts["error_before"] == facts["error_after"]


def test_rows_do_not_depend_on_each_other():
    weight, stats = layer(5, rows=40, columns=32)
    kept = keep_mask(weight.abs(), PATTERNS["2:4"])
    found, _ = swaps.refine_mask(weight, kept, stats, PATTERNS["2:4"])
    order = torch.randperm(len(weight), generator=torch.Generator().manual_seed(0))
    moved, _ = swaps.refine_mask(weight[order], kept[order], stats, PATTERNS["2:4"])
    assert torch.equal(moved, found[order])
    scaled, _ = swaps.refine_mask(weight * 8, kept, stats, PATTERNS["2:4"])
    assert torch.equal(scaled, found)


@pytest.mark.parametrize("pattern", ["2:4", "row"])
def test_equal_columns_are_swapped_alike_each_time(pattern):
    """Each second column repeats the one before it, so that every swap has a tie."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 8, generator=draw).repeat_interleave(2, 1)
    inputs = torch.randn(60, 8, generator=draw).repeat_interleave(2, 1)
    sums = Accumulator("hessian", 16)
    sums.add(inputs, "here")
    stats, kept = sums.finish(), keep_mask(weight.abs(), PATTERNS[pattern])
    first, facts = swaps.refine_mask(weight, kept, stats, PATTERNS[pattern])
    second, again = swaps.refine_mask(weight, kept, stats, PATTERNS[pattern])
    assert torch.equal(first, second) and facts == again and facts["swaps"]


def test_a_weight_that_was_zero_is_not_restored():
    weight, stats = layer(6, rows=10, columns=32)
    weight[:, ::5] = 0
    new, _ = magnitude.prune_linear(weight, None, PATTERNS["row"])
    found, _ = swaps.refine_mask(weight, new != 0, stats, PATTERNS["row"])
    assert not (found & (weight == 0)).any()
    assert torch.equal(found.sum(1), (new != 0).sum(1))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_to_swap_is_said(share):
    weight, stats = layer(7)
    pattern = parse_pattern("unstructured", share, "row")
    kept = keep_mask(weight.abs(), pattern)
    found, facts = swaps.refine_mask(weight, kept, stats, pattern)
    assert torch.equal(found, kept) and facts["swaps"] == 0
    assert "no row" in facts["fallbacks"][0]


def test_dead_inputs_and_a_narrow_dtype_are_no_trouble():
    weight, stats = layer(8, rows=16, columns=32)
    stats.hessian[3], stats.hessian[:, 3] = 0, 0
    kept = keep_mask(weight.abs(), PATTERNS["2:4"])
    found, facts = swaps.refine_mask(weight.bfloat16(), kept, stats, PATTERNS["2:4"])
    assert found.dtype == torch.bool and facts["error_after"] < facts["error_before"]
    none = InputStats(0, torch.zeros(32), torch.zeros(32, 32))
    still, facts = swaps.refine_mask(weight, kept, none, PATTERNS["2:4"])
    assert torch.equal(still, kept) and facts["error_after"] is None


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("update", ["none", "sparsegpt", "least_squares"])
def test_a_recipe_refines_between_criterion_and_update(method, update):
    weight, stats = layer(9, rows=16, columns=32)
    linear = torch.nn.Linear(32, 16, bias=False)
    linear.weight.data.copy_(weight)
    found, plain = (
        Pruner(Recipe(method, "2:4", update=update, refine=refine), {})
        for refine in ("swaps", None)
    )
    new, old = found.pruned("l", linear, stats), plain.pruned("l", linear, stats)
    refined = found.report["l"]["refined"]
    assert refined["error_after"] < refined["error_before"]
    assert not torch.equal(new != 0, old != 0)
    # An update may do better under the mask that was worse without one.
    if update == "none":
        assert found.report["l"]["output_error"] < plain.report["l"]["output_error"]
        assert torch.equal(new[new != 0], weight[new != 0])
        assert found.report["l"]["output_error"] == pytest.approx(refined["error_after"], rel=1e-3)


def test_weights_that_a_method_updated_for_its_own_mask_are_refused():
    with pytest.raises(PrunegridError, match="update"):
        Pruner(Recipe("sparsegpt", "2:4", refine="swaps"), {})
