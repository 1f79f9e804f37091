"""AlphaPruning: exponents against known power laws, a slow fit and the authors' code."""

import math

import numpy as np
import pytest
import torch

from prunegrid.pruning.allocation.alpha import allocate, eigenvalues, scaled, tail_exponent
from tests.helpers import ROOT

GOLDEN = ROOT / "tests/golden/alpha_small.npz"


def slow_fit(values, starts=(0.95, 1.5)):
    """Return α as the paper says, number by number."""
    logs = [math.log10(value) for value in values]
    width = (logs[-1] - logs[0]) / 100
    counts = [0] * 100
    for log in logs:
        counts[min(int((log - logs[0]) / width), 99)] += 1
    peak = 10 ** (logs[0] + counts.index(max(counts)) * width)
    best = (2.0, None)
    for i, start in enumerate(values[:-1]):
        if starts[0] * peak <= start <= starts[1] * peak:
            tail = values[i:]
            alpha = 1 + len(tail) / sum(math.log(value / start) for value in tail)
            gaps = [
                abs(1 - (value / start) ** (1 - alpha) - j / len(tail))
                for j, value in enumerate(tail)
            ]
            best = min(best, (max(gaps), alpha))
    return best[1]


def matrix_of(values, rows, columns, seed=0):
    """Return a matrix with these eigenvalues of WᵀW."""
    draw = torch.Generator().manual_seed(seed)
    count = min(rows, columns)
    left, _ = torch.linalg.qr(torch.randn(rows, count, generator=draw, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(columns, count, generator=draw, dtype=torch.float64))
    return left @ torch.diag(torch.as_tensor(values).sqrt()) @ right.t()


@pytest.mark.parametrize("alpha", [1.7, 2.5, 4.0])
def test_the_exponent_of_a_power_law_is_found(alpha):
    """Eigenvalues at the quantiles of the law from 0.03 on; below it a bulk of as many."""
    count = 1500
    tail = 0.03 * (1 - (np.arange(count) + 0.5) / count) ** (-1 / (alpha - 1))
    assert tail_exponent(tail) == pytest.approx(alpha, rel=0.03)
    assert tail_exponent(100 * tail) == pytest.approx(alpha, rel=0.03)
    with_bulk = np.sort(np.concatenate([np.linspace(0.001, 0.03, 200), tail]))
    assert tail_exponent(with_bulk) == pytest.approx(alpha, rel=0.1)


@pytest.mark.parametrize("seed", range(6))
def test_the_fit_is_the_papers(seed):
    draw = np.random.default_rng(seed)
    values = np.sort(draw.lognormal(sigma=1 + seed / 3, size=120)) * 10.0 ** (seed - 3)
    assert tail_exponent(values) == pytest.approx(slow_fit(values), rel=1e-6)


def test_exponents_are_those_of_the_authors_code_with_its_lower_bound_mended():
    with np.load(GOLDEN) as golden:
        found = [tail_exponent(eigenvalues(torch.from_numpy(golden[f"W{i}"]))) for i in range(4)]
        assert found == pytest.approx(golden["alphas"].tolist(), rel=1e-4)
        # With its bound open other starts are taken: the mended one is no idle change.
        assert abs(found[0] - golden["alphas_open"][0]) > 0.1


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (30, 30)])
def test_eigenvalues_are_squared_singular_values(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected = torch.linalg.svdvals(weight.double()).square().flip(0)
    assert np.allclose(eigenvalues(weight), expected.numpy(), rtol=1e-6)


def test_what_has_no_tail_does_not_count():
    assert tail_exponent(eigenvalues(torch.ones(1, 9))) is None
    assert tail_exponent(eigenvalues(torch.eye(8))) is None
    assert len(eigenvalues(torch.zeros(8, 8))) == 0 and tail_exponent(np.array([])) is None
    low_rank = torch.randn(20, 3) @ torch.randn(3, 20)
    assert len(eigenvalues(low_rank)) == 3


def spectra():
    """Return {block: {linear: weight}} of three blocks with tails from heavy to light, and αs."""
    blocks, alphas = {}, []
    for index, alpha in enumerate((1.6, 2.4, 5.0)):
        values = (1 - (np.arange(60) + 0.5) / 60) ** (-1 / (alpha - 1))
        rows = 60 + 20 * index
        linears = {"q": matrix_of(values, 60, rows), "up": matrix_of(3 * values, rows, 60, 1)}
        blocks[f"b.{index}"] = {f"b.{index}.{name}": w.float() for name, w in linears.items()}
        alphas.append(tail_exponent(eigenvalues(linears["q"])))
    return blocks, alphas


@pytest.mark.parametrize("sparsity", [0.3, 0.7])
def test_shares_go_linearly_with_alpha_and_meet_the_target(sparsity):
    blocks, alphas = spectra()
    found = allocate(blocks, sparsity, None, spread=0.3)
    sizes = {name: w.numel() for linears in blocks.values() for name, w in linears.items()}
    mean = sum(found[name] * size for name, size in sizes.items()) / sum(sizes.values())
    assert mean == pytest.approx(sparsity)
    shares = [found[f"b.{index}.q"] for index in range(3)]
    assert shares == [found[f"b.{index}.up"] for index in range(3)]
    assert shares[0] / shares[2] == pytest.approx(0.7 / 1.3)
    place = (alphas[1] - alphas[0]) / (alphas[2] - alphas[0])
    assert shares[1] / shares[2] == pytest.approx((0.7 + 0.6 * place) / 1.3, rel=1e-3)


def test_no_share_exceeds_one_and_the_others_make_up_for_it():
    blocks, _ = spectra()
    found = allocate(blocks, 0.9, None, spread=0.9)
    sizes = {name: w.numel() for linears in blocks.values() for name, w in linears.items()}
    assert max(found.values()) == found["b.2.q"] == 1.0
    total = sum(found[name] * size for name, size in sizes.items())
    assert total == pytest.approx(0.9 * sum(sizes.values()))
    assert scaled({"a": 0.5, "b": 1.5}, {"a": 10, "b": 10}, 1.0) == {"a": 1.0, "b": 1.0}
    assert scaled({"a": 0.5, "b": 1.5}, {"a": 10, "b": 10}, 0.0) == {"a": 0.0, "b": 0.0}


def test_equal_spectra_and_no_spread_are_uniform():
    weight = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    alike = {"a": {"a.l": weight}, "b": {"b.l": 2 * weight}, "c": {"c.l": torch.zeros(20, 30)}}
    blocks, _ = spectra()
    for found in (allocate(alike, 0.6, None), allocate(blocks, 0.6, None, spread=0.0)):
        assert list(found.values()) == pytest.approx([0.6] * len(found))
