"""The faster linear of blocks that are run by hand: torch's own up to rounding, or not taken."""

import pytest
import torch
from torch.nn import functional

from prunegrid.pruning import fast_linear
from prunegrid.pruning.fast_linear import FastLinear
from tests.helpers.rounding import close


def made(dtype=torch.float32, bias=True):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    return draw(1, 33, 48), draw(80, 48), draw(80) if bias else None


@pytest.fixture
def taken(monkeypatch):
    """Count how often oneDNN's product is taken."""
    calls, own = [], fast_linear.LINEAR

    def count(*args):
        calls.append(args)
        return own(*args)

    monkeypatch.setattr(fast_linear, "LINEAR", count)
    return calls


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_taken_and_equal_up_to_rounding(taken, bias):
    inputs, weight, more = made(bias=bias)
    with torch.no_grad(), FastLinear():
        got = functional.linear(inputs, weight, more)
    assert len(taken) == 1
    exact = functional.linear(
        inputs.double(), weight.double(), None if more is None else more.double()
    )
    assert got.dtype == torch.float32
    sizes = (None if t is None else t.double().abs() for t in (inputs, weight, more))
    assert close(got, exact, weight.shape[1] + 1, functional.linear(*sizes))


def test_columns_of_a_larger_weight_are_right():
    """A weight that is a view is not read as if it were contiguous."""
    inputs, weight, bias = made()
    wide = torch.cat([weight, weight * 2], 1)[:, 48:]
    turned = weight.t().contiguous().t()
    with torch.no_grad(), FastLinear():
        for other in (wide, turned):
            got = functional.linear(inputs, other, bias)
            want = inputs.double() @ other.double().t() + bias.double()
            sizes = functional.linear(*(t.double().abs() for t in (inputs, other, bias)))
            assert close(got, want, other.shape[1] + 1, sizes)


@pytest.mark.parametrize(
    "case", ["float64", "bfloat16", "gradients", "none here", "empty", "turned"]
)
def test_elsewhere_torchs_own_is_taken(taken, monkeypatch, case):
    dtype = {"float64": torch.float64, "bfloat16": torch.bfloat16}.get(case, torch.float32)
    inputs, weight, bias = made(dtype)
    if case == "empty":
        inputs = inputs[:, :0]
    if case == "none here":
        monkeypatch.setattr(fast_linear, "LINEAR", None)
    if case == "turned":
        weight = weight.t().contiguous().t()
    with torch.set_grad_enabled(case == "gradients"), FastLinear():
        got = functional.linear(inputs, weight, bias)
    assert not taken
    assert torch.equal(got, functional.linear(inputs, weight, bias))


def test_outside_it_nothing_is_changed(taken):
    inputs, weight, bias = made()
    with torch.no_grad():
        with FastLinear():
            pass
        functional.linear(inputs, weight, bias)
    assert not taken
