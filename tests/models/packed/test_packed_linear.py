"""Packed linears by themselves: their weight, and products that are shared."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prunegrid.models.packed.container import same_bits
from prunegrid.models.packed.packed_linear import (
    PackedLinear,
    SharedInput,
    recorded_inputs,
    share_inputs,
)
from prunegrid.models.packed.packed_matrix import PackedMatrix
from tests.helpers.packed_kernels import kernel_cache as kernel_cache  # fixtures
from tests.helpers.packed_kernels import kernels as kernels
from tests.helpers.packed_kernels import sparse

pytestmark = pytest.mark.usefixtures("kernels")


def linears(*rows: int, bias: bool = False, values: str = "float32") -> list[PackedLinear]:
    return [
        PackedLinear(
            PackedMatrix.of(sparse(count, 70, 0.5, seed), values),
            nn.Parameter(torch.full((count,), float(seed)), requires_grad=False) if bias else None,
            transposed=False,
        )
        for seed, count in enumerate(rows)
    ]


def inputs(tokens: int = 2) -> torch.Tensor:
    return torch.randn(tokens, 70, generator=torch.Generator().manual_seed(tokens))


def counted(shared: SharedInput, monkeypatch) -> list[int]:
    """Return a list that grows with each product of all linears together."""
    calls, times = [], PackedMatrix.times

    def count(matrix, x, bias=None):
        if matrix is shared.matrix:
            calls.append(len(x))
        return times(matrix, x, bias)

    monkeypatch.setattr(PackedMatrix, "times", count)
    return calls


@pytest.mark.parametrize("values", ["float32", "bfloat16", "int8"])
def test_one_product_serves_all_that_read_the_same_input(monkeypatch, values):
    members = linears(5, 3, 4, bias=True, values=values)
    members[1].bias = None
    for tokens in (1, 2, 8, 9):
        x = inputs(tokens)
        alone = [linear(x) for linear in members]
        shared = SharedInput(members)
        with monkeypatch.context() as patch:
            calls = counted(shared, patch)
            together = [linear(x) for linear in members]
        assert all(same_bits(a, b) for a, b in zip(alone, together, strict=True))
        assert calls == ([tokens] if tokens <= 8 else [])


def test_another_input_or_a_changed_one_is_multiplied_anew(monkeypatch):
    first, second = members = linears(5, 3)
    x, other = inputs(), inputs(1)
    expected = [linear(x) for linear in members], second(other), second(x + 1)
    calls = counted(SharedInput(members), monkeypatch)
    assert same_bits(second(x), expected[0][1]) and len(calls) == 1  # the second one alone
    assert same_bits(first(x), expected[0][0]) and same_bits(second(other), expected[1])
    assert same_bits(first(x), expected[0][0])
    x += 1
    assert same_bits(second(x), expected[2]) and len(calls) == 5


def test_inputs_without_a_version_are_multiplied_one_by_one(monkeypatch):
    members = linears(5, 3)
    expected = [linear(inputs()) for linear in members]
    calls = counted(SharedInput(members), monkeypatch)
    with torch.inference_mode():
        x = inputs()
        found = [linear(x) for linear in members]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)) and not calls


def test_linears_are_joined_as_they_are_called():
    a, b, c, d, e = members = linears(5, 3, 4, 70, 2)
    model = nn.ModuleList(members)
    x = inputs()
    with recorded_inputs(model) as calls:
        a(x), b(x), c(x + 0), d(x), d(x), e(x)
    assert share_inputs(calls) == 1
    assert a.together is b.together is not None
    assert not any(linear.together for linear in (c, d, e))
    a(x)
    assert len(calls) == 6  # what comes after is not noted


def test_the_weight_is_the_dense_one_each_time_anew():
    weight = sparse(5, 70, 0.5)
    linear = PackedLinear(PackedMatrix.of(weight), None, transposed=False)
    turned = PackedLinear(PackedMatrix.of(weight), None, transposed=True)
    assert same_bits(linear.weight, weight) and same_bits(turned.weight, weight.t().contiguous())
    assert (linear.reads, linear.in_features, linear.out_features) == (1, 70, 5)
    assert linear.state_dict().keys() == {"weight"}
    assert same_bits(turned.state_dict()["weight"], weight.t().contiguous())
    assert "70, 5, bias=False, values=float32, zeros=" in repr(linear)
