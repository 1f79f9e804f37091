"""Means and variances of inputs: against float64, also of means far above the deviation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunegrid.pruning.input_stats import Accumulator, collect
from tests.helpers.rounding import close


def drawn(seed, tokens, width, offset):
    """Return inputs whose means lie some deviations from zero; the first token is an outlier."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(tokens, width, generator=draw) * (0.1 + torch.rand(width, generator=draw))
    inputs += offset * torch.randn(width, generator=draw)
    inputs[0] *= 50
    return inputs


def parts_of(inputs):
    tokens, width = inputs.shape
    return (
        inputs[:3],
        inputs[3 : tokens // 2],
        inputs[:0],
        inputs[tokens // 2 :].reshape(1, -1, width),
    )


@pytest.mark.parametrize("needs", ["input_moments", "hessian_and_moments"])
@pytest.mark.parametrize("offset", [0.0, 10.0, 3000.0])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, derandomize=True)
def test_moments_are_those_of_float64(needs, offset, seed):
    inputs = drawn(seed, 300, 12, offset)
    sums = Accumulator(needs, 12)
    for part in parts_of(inputs):
        sums.add(part, "here")
    found, exact = sums.finish(), inputs.double()
    assert close(found.input_means, exact.mean(0), len(inputs), exact.abs().mean(0))
    variances = exact.var(0, correction=0)
    assert torch.allclose(found.input_variances.double(), variances, rtol=1e-4)
    assert (found.hessian is None) == (needs == "input_moments")


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, derandomize=True)
def test_sums_of_several_accumulators_are_those_of_all_their_tokens(seed):
    inputs = drawn(seed, 200, 9, 3000.0)
    parts = [inputs[:1], inputs[1:130], inputs[:0], inputs[130:]]
    sums = []
    for part in parts:
        sums.append(Accumulator("input_moments", 9))
        sums[-1].add(part, "here")
    found, exact = (sums[0] + sums[1] + (sums[2] + sums[3])).finish(), inputs.double()
    assert found.tokens == 200
    assert close(found.input_means, exact.mean(0), len(inputs), exact.abs().mean(0))
    assert torch.allclose(found.input_variances.double(), exact.var(0, correction=0), rtol=1e-4)


def test_an_input_that_never_changes_has_no_variance():
    sums = Accumulator("input_moments", 3)
    for length in (5, 100, 7):
        sums.add(torch.tensor([0.0, -2.7, 1e6]).expand(length, 3), "here")
    found = sums.finish()
    assert found.input_variances.tolist() == [0, 0, 0]
    assert found.input_means.tolist() == pytest.approx([0.0, -2.7, 1e6])


def test_all_calls_of_a_linear_count():
    linear, x, y = torch.nn.Linear(4, 4), torch.randn(6, 4) + 5, torch.randn(9, 4)

    def forward(_sample):
        return linear(x).sum() + linear(y).sum()

    found = collect({"l": linear}, "input_moments", "cpu", [0, 1], forward)["l"]
    both = torch.cat([x, y, x, y]).double()
    assert found.tokens == 30
    assert torch.allclose(found.input_means.double(), both.mean(0), atol=1e-6)
    assert torch.allclose(found.input_variances.double(), both.var(0, correction=0), rtol=1e-5)


@pytest.mark.parametrize("needs", ["input_norms", "hessian"])
def test_moments_are_left_out_where_nothing_reads_them(needs):
    sums = Accumulator(needs, 4)
    sums.add(torch.ones(3, 4), "here")
    found = sums.finish()
    assert found.input_means is None and found.input_variances is None
