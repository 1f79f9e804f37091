"""The error of an output against the outputs themselves."""

import torch

from prunegrid.pruning.input_stats import Accumulator, InputStats
from prunegrid.pruning.output_errors import output_error


def test_the_error_of_an_output_is_that_of_its_inputs():
    draw = torch.Generator().manual_seed(0)
    weight, inputs = (torch.randn(n, 7, generator=draw) for n in (5, 40))
    pruned = weight * (weight.abs() > 0.5)
    sums = Accumulator("hessian", 7)
    sums.add(inputs, "here")
    stats = sums.finish()
    outputs, lost = (
        inputs.double() @ weight.double().t(),
        inputs.double() @ (pruned - weight).double().t(),
    )
    exact = float(lost.square().sum() / outputs.square().sum())
    assert abs(output_error(weight, pruned, stats) - exact) < 1e-3 * exact
    norms = InputStats(40, stats.input_norms)
    squares = stats.input_norms.double()
    alone = [((w.double() ** 2) * squares).sum() for w in (pruned - weight, weight)]
    assert abs(output_error(weight, pruned, norms) - float(alone[0] / alone[1])) < 1e-3
    assert output_error(weight, weight, stats) == 0
    assert output_error(0 * weight, pruned, stats) is None


def test_a_linear_that_no_token_reached_has_no_error():
    linear = torch.nn.Linear(3, 2)
    stats = InputStats.unit(linear, "hessian")
    assert output_error(linear.weight, 0 * linear.weight, stats) is None
