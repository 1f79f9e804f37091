"""Fitting of one part: against least squares, and what a run that diverges leaves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prunegrid.finetuning.part_fitting import Problem, fit
from prunegrid.finetuning.training.divergence import Diverged

WINDOWS, TOKENS, WIDTH, OUT = 12, 16, 8, 5


@pytest.fixture
def toy():
    """Return (problem of one linear, inputs [windows, tokens, d_in], wanted outputs)."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(WINDOWS, TOKENS, WIDTH, generator=draw)
    x = x @ torch.randn(WIDTH, WIDTH, generator=draw)
    dense = torch.randn(OUT, WIDTH, generator=draw)
    near = x + 0.3 * torch.randn(x.shape, generator=draw)
    kept = torch.rand(OUT, WIDTH, generator=draw) > 0.5
    wanted = x @ dense.T
    weight = nn.Parameter(dense * kept, requires_grad=False)
    problem = Problem(
        "toy", {"w": weight}, {"w": kept}, lambda i: near[i] @ weight.T, list(wanted),
        range(8), range(8, WINDOWS),
    )  # fmt: skip
    return problem, near, wanted


def solution(problem, near, wanted):
    """Return the weight of least squares over the kept places, on the windows of training."""
    kept, found = problem.kept["w"], torch.zeros(OUT, WIDTH)
    left, right = near[:8].flatten(0, 1), wanted[:8].flatten(0, 1)
    for row in range(OUT):
        columns = kept[row].nonzero()[:, 0]
        if len(columns):
            found[row, columns] = torch.linalg.lstsq(left[:, columns], right[:, row]).solution
    return found


def test_a_part_of_one_linear_ends_in_least_squares_under_its_mask(toy):
    problem, near, wanted = toy
    best = solution(problem, near, wanted)
    runs, before = fit(problem, [3e-2], epochs=400, batch_size=8, seed=1, every=True)
    weight = problem.weights["w"]
    assert not weight[~problem.kept["w"]].any()
    # The last epochs step around the optimum of the training windows; the held-out ones choose.
    mine = (near[:8] @ weight.T - wanted[:8]).square().mean()
    least = (near[:8] @ best.T - wanted[:8]).square().mean()
    assert least <= mine < 1.02 * least
    assert problem.error() == pytest.approx(runs[0].lowest()) and runs[0].lowest() < before


def test_errors_are_of_the_held_out_windows(toy):
    problem, near, wanted = toy
    plain = (near[8:] @ problem.weights["w"].T - wanted[8:]).square().sum()
    assert problem.error() == pytest.approx(float(plain / wanted[8:].square().sum()), rel=1e-5)
    for window in problem.train:
        problem.targets[window].fill_(torch.nan)
    assert problem.error() < 1


def test_a_fit_that_only_worsens_leaves_the_weights_as_they_were(toy):
    problem, near, wanted = toy
    problem.restore({"w": solution(problem, near, wanted)})
    start = problem.snapshot()["w"]
    # Another target in training than on the held-out windows.
    for window in problem.train:
        problem.targets[window].neg_()
    runs, before = fit(problem, [1e-2], epochs=3, batch_size=2, seed=1, every=True)
    assert runs[0].best is None and min(runs[0].errors) > before
    assert torch.equal(problem.weights["w"], start)


def test_a_rate_that_diverges_does_not_touch_the_others(toy):
    problem = toy[0]
    start = problem.snapshot()
    alone, _ = fit(problem, [1e-2], epochs=2, batch_size=2, seed=1, every=True)
    expected = problem.snapshot()["w"]
    problem.restore(start)
    runs, _ = fit(problem, [1e38, 1e-2], epochs=2, batch_size=2, seed=1, every=True)
    assert [run.diverged for run in runs] == [True, False]
    assert runs[1].errors == alone[0].errors
    assert torch.equal(problem.weights["w"], expected)


def test_a_fit_that_diverges_restores_the_weights_and_says_what_to_lower(toy):
    problem = toy[0]
    start = problem.snapshot()["w"]
    with pytest.raises(Diverged, match="1e\\+38") as caught:
        fit(problem, [1e38], epochs=2, batch_size=2, seed=1, every=True)
    assert torch.equal(problem.weights["w"], start)
    assert caught.value.where == "toy" and "learning_rates" in caught.value.remedy


def test_the_first_sound_rate_is_enough_where_one_is_known(toy):
    problem = toy[0]
    runs, _ = fit(problem, [1e38, 1e-2, 1e-3], epochs=1, batch_size=2, seed=1, every=False)
    assert [run.rate for run in runs] == [1e38, 1e-2]


def test_the_order_of_windows_is_the_seeds(toy):
    problem = toy[0]
    start, found = problem.snapshot(), []
    for seed in (1, 1, 2):
        problem.restore(start)
        fit(problem, [1e-2], epochs=1, batch_size=2, seed=seed, every=True)
        found.append(problem.snapshot()["w"])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_errors_are_those_of_the_stored_dtype(toy):
    problem = toy[0]
    rough = Problem(**{**vars(problem), "dtype": torch.bfloat16})
    runs, _ = fit(rough, [1e-2], epochs=2, batch_size=2, seed=1, every=True)
    weight = rough.weights["w"]
    assert torch.equal(weight, weight.bfloat16().float())
    assert rough.error() == pytest.approx(runs[0].lowest())
