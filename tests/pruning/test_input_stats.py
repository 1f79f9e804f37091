"""Statistics of inputs: exact sums, shared where the input is, and missing ones are named."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunegrid.pruning.input_stats import Accumulator, collect, unreached


@given(seed=st.integers(0, 2**32 - 1), width=st.sampled_from([5, 256, 300]))
@settings(max_examples=10)
def test_statistics_of_parts_are_those_of_the_whole(seed, width):
    inputs = torch.randn(60, width, generator=torch.Generator().manual_seed(seed))
    sums = {needs: Accumulator(needs, width) for needs in ("input_norms", "hessian")}
    for part in (inputs[:10], inputs[10:40].reshape(2, 15, width), inputs[40:].clone()):
        for accumulator in sums.values():
            accumulator.add(part, "here")
    norms, hessian = sums["input_norms"].finish().input_norms, sums["hessian"].finish().hessian
    exact = inputs.double()
    assert torch.allclose(norms.double(), exact.square().mean(0), rtol=1e-5)
    assert torch.allclose(hessian.double(), 2 / 60 * exact.t() @ exact, atol=1e-4)
    assert torch.equal(hessian, hessian.t())


def test_linears_that_share_an_input_share_its_statistics():
    first, second, third = (torch.nn.Linear(6, 6) for _ in range(3))
    linears = {"first": first, "second": second, "third": third}
    x = torch.randn(4, 6)
    stats = collect(linears, "hessian", "cpu", [0], lambda _: third(first(x) + second(x)))
    assert stats["first"] is stats["second"]
    assert stats["third"] is not stats["first"]
    assert stats["first"].tokens == 4


def test_a_linear_that_no_sample_reaches_has_no_statistics():
    linears = {"seen": torch.nn.Linear(2, 2), "lost": torch.nn.Linear(2, 2)}
    inputs, samples = torch.ones(3, 2), []

    def forward(sample):
        samples.append(sample)
        return linears["seen"](inputs)

    assert collect(linears, "input_norms", "cpu", [0, 1], forward).keys() == {"seen"}
    assert unreached(linears, [2, 3], forward) == ["lost"] and samples == [0, 1, 2, 3]
    # No sample more than it takes.
    assert unreached({"seen": linears["seen"]}, [4, 5], forward) == [] and samples[4:] == [4]
