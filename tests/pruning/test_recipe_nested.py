"""A model that is pruned in several steps: `nested` keeps the zeros of the step before."""

import pytest
import torch

from prunegrid.pruning import prune_weight


def layer(seed, rows=24, columns=64):
    draw = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=draw)
    inputs = torch.randn(300, columns, generator=draw) @ mix
    return torch.randn(rows, columns, generator=draw), inputs


def sparsegpt(weight, inputs, sparsity, **settings):
    pattern = {"sparsity": sparsity} if isinstance(sparsity, float) else {}
    kind = "unstructured" if pattern else sparsity
    return prune_weight(
        weight, "sparsegpt", kind, **pattern, inputs=inputs, blocksize=32, **settings
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scope", ["layer", "row"])
def test_each_mask_holds_the_one_before(seed, scope):
    weight, inputs = layer(seed)
    before = weight
    for sparsity in (0.25, 0.5, 0.75):
        after = sparsegpt(before, inputs, sparsity, nested=True, scope=scope)
        assert not after[before == 0].any()
        # The quota of each block of the mask grows, so the count is the one asked for.
        assert int((after == 0).sum()) == sparsity * weight.numel()
        before = after + 0.01 * (after != 0)  # what a tuning does to those that stay


def test_without_it_updates_bring_zeros_back():
    weight, inputs = layer(0)
    before = sparsegpt(weight, inputs, 0.25)
    assert sparsegpt(before, inputs, 0.5)[before == 0].any()


@pytest.mark.parametrize("sparsity", [0.5, "2:4"])
def test_it_changes_nothing_where_there_are_no_zeros(sparsity):
    weight, inputs = layer(1)
    assert torch.equal(
        sparsegpt(weight, inputs, sparsity, nested=True), sparsegpt(weight, inputs, sparsity)
    )


def test_more_zeros_than_a_block_is_to_lose_stay():
    """2:4 over a matrix with a row of zeros: they stay, and are beyond what was asked."""
    weight, inputs = layer(2)
    weight[0] = 0
    after = sparsegpt(weight, inputs, "2:4", nested=True)
    assert not after[0].any() and int((after == 0).sum()) == 24 * 32 + 32
    groups = (after.reshape(24, -1, 4) != 0).sum(-1)
    assert int(groups.max()) == 2


def test_the_rest_still_makes_up_for_what_goes():
    """The error of the output is below that of zeroing the same weights alone."""
    weight, inputs = layer(3)
    before = sparsegpt(weight, inputs, 0.3)
    after = sparsegpt(before, inputs, 0.6, nested=True)
    plain = before * (after != 0)

    def error(other):
        return float((inputs @ (other - before).T).square().sum())

    assert error(after) < 0.7 * error(plain)
