"""ALPS and ADMM-Grad: the authors' own results, an oracle in float64, and what must always hold."""

import numpy as np
import pytest
import torch

from prunegrid.common.errors import PrunegridError
from prunegrid.pruning import prune_weight
from prunegrid.pruning.criteria import method_module, method_settings
from prunegrid.pruning.input_stats import Accumulator, InputStats
from prunegrid.pruning.patterns import parse_pattern
from prunegrid.pruning.updates import least_squares
from tests.helpers import ROOT

METHODS = ["alps", "admm"]
PATTERNS = [("2:4", None), ("1:4", None), ("4:8", None), ("unstructured", 0.7)]
SEEDS = range(6)
TEN_STEPS = {"solve_iterations": 10, "tolerance": 0.0}  # as ALPS's code ends


def layer(seed, rows=24, columns=48, tokens=200, noise=1.0):
    """Return a weight and inputs [tokens, columns] of unequal sizes that go together in part."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    inputs = torch.randn(tokens, columns // 3, generator=generator)
    inputs = inputs @ torch.randn(columns // 3, columns, generator=generator)
    inputs += noise * torch.randn(tokens, columns, generator=generator)
    return weight, inputs * (torch.rand(columns, generator=generator) * 2 + 0.2)


def statistics(inputs):
    sums = Accumulator("hessian", inputs.shape[1])
    sums.add(inputs, "inputs")
    return sums.finish()


def facts_of(method, weight, inputs, pattern="2:4", sparsity=None, **own):
    module = method_module(method)
    parsed = parse_pattern(pattern, sparsity, module.SCOPE)
    made = module.prune_linear(weight, statistics(inputs), parsed, **method_settings(method, own))
    assert made[0].isfinite().all()
    return made


def error(weight, pruned, inputs):
    """‖(W' - W) X‖² / ‖W X‖², in float64."""
    exact = inputs.double().t()
    return float(
        ((pruned.double() - weight.double()) @ exact).norm() ** 2
        / (weight.double() @ exact).norm() ** 2
    )


def dampened_error(weight, pruned, inputs, share=0.01):
    """Return what ALPS's last part minimises: the error with the pull of λ."""
    hessian = 2 / len(inputs) * inputs.double().t() @ inputs.double()
    hessian += share * hessian.diagonal().mean() * torch.eye(len(hessian)).double()
    lost = pruned.double() - weight.double()
    return float(((lost @ hessian) * lost).sum())


def keep(values, pattern, count):
    """Return the mask of the largest of numpy values: N of M, or all but `count`."""
    sizes = np.abs(values)
    if pattern != "unstructured":
        kept, group = map(int, pattern.split(":"))
        sizes, count = sizes.reshape(-1, group), group - kept
    else:
        sizes = sizes.reshape(1, -1)
    mask = np.ones(sizes.shape, bool)
    gone = np.argsort(sizes, axis=1, kind="stable")[:, :count]
    np.put_along_axis(mask, gone, False, axis=1)
    return mask.reshape(values.shape)


def normalised(weight, inputs, before, after):
    """Return (B₀, H̄, s) in float64, with λ before or after the diagonal is brought to 1."""
    hessian = inputs.numpy().astype(float).T @ inputs.numpy()
    hessian += before * np.diag(hessian).mean() * np.eye(len(hessian))
    scale = np.sqrt(np.diag(hessian))
    hessian = hessian / scale / scale[:, None] + after * np.eye(len(hessian))
    return weight.numpy() * scale, hessian, scale


def alps_by_the_paper(weight, inputs, pattern, sparsity, rho=0.1):
    """ALPS as its code writes it (B by H B₀ - V + ρD), then the exact solution row by row."""
    dense, hessian, scale = normalised(weight, inputs, 0.01, 0.0)
    target, count = dense @ hessian, int((sparsity or 0) * dense.size)
    first = before = keep(dense, pattern, count)
    kept, rose = first.sum(), False
    under, multipliers = dense * first, np.zeros_like(dense)
    for number in range(300):
        inverse = np.linalg.inv(hessian + rho * np.eye(len(hessian)))
        solution = (target - multipliers + rho * under) @ inverse
        mask = keep(multipliers / rho + solution, pattern, count)
        under = (multipliers / rho + solution) * mask
        multipliers = multipliers + rho * (solution - under)
        if (number + 1) % 3:
            continue
        changed, before = (mask ^ before).sum(), mask
        share = changed / kept
        rose = rose or share > 0.005
        if rose and not changed:
            break
        rho *= (1.3 if share > 0.1 else 1.2 if share > 0.005 else 1.1) if rose else 0.2
        if changed and not rose:
            solution, under, multipliers = dense, dense * first, np.zeros_like(dense)
        if number >= 30 and share < 3e-4:
            break
    mask, pruned = keep(solution, pattern, count), np.zeros_like(dense)
    for row, stays in enumerate(mask):
        pruned[row, stays] = np.linalg.solve(hessian[np.ix_(stays, stays)], target[row, stays])
    return pruned / scale, number + 1


def admm_by_the_paper(weight, inputs, pattern, sparsity):
    """ADMM-Grad as its code writes it, with its schedule on and the N:M that is asked for."""
    dense, hessian, scale = normalised(weight, inputs, 0.0, 0.1)
    inverse = np.linalg.inv(hessian + np.eye(len(hessian)))
    solution, scaled = dense, np.zeros_like(dense)
    for number in range(1, 21):
        point = solution + scaled
        if number <= 15:
            share = 1 - (1 - number / 15) ** 3
            if pattern == "unstructured":
                mask = keep(point, pattern, int(int(sparsity * dense.size) * share + 1e-9))
            else:
                stays = keep(point, pattern, 0)
                count = int((~stays).sum() * share + 1e-9)
                mask = keep(np.where(stays, np.inf, point), "unstructured", count)
        under = point * mask
        scaled = point - under
        solution = (dense @ hessian + under - scaled) @ inverse
    return (solution + scaled) * mask / scale, 20


ORACLES = {"alps": alps_by_the_paper, "admm": admm_by_the_paper}


@pytest.mark.parametrize(("pattern", "sparsity"), PATTERNS)
@pytest.mark.parametrize("method", METHODS)
def test_the_result_is_the_algorithms_in_float64(method, pattern, sparsity):
    """Rounding may decide a near tie, so that one of the layers may part from the oracle."""
    equal = 0
    for seed in SEEDS:
        weight, inputs = layer(seed)
        expected, iterations = ORACLES[method](weight, inputs, pattern, sparsity)
        own = {"tolerance": 1e-6} if method == "alps" else {}
        found, facts = facts_of(method, weight, inputs, pattern, sparsity, **own)
        same = np.array_equal(found.numpy() != 0, expected != 0)
        if same and facts.get("admm_iterations", iterations) == iterations:
            equal += np.allclose(found, expected, rtol=0, atol=2e-4)
    assert equal >= len(SEEDS) - 1


@pytest.mark.parametrize("rho", [20.0, 2e3])
def test_a_penalty_that_is_too_large_falls_until_the_mask_moves(rho):
    weight, inputs = layer(0)
    expected, iterations = alps_by_the_paper(weight, inputs, "2:4", None, rho)
    found, facts = facts_of("alps", weight, inputs, rho=rho)
    assert facts["admm_iterations"] == iterations and facts["rho"] < rho
    assert np.mean((found.numpy() != 0) == (expected != 0)) > 0.99


@pytest.fixture(scope="module")
def golden():
    arrays = {}
    for file in ("layer_small", "layer_small_admm"):
        with np.load(ROOT / f"tests/golden/{file}.npz") as stored:
            arrays |= {name: torch.from_numpy(np.asarray(stored[name])) for name in stored.files}
    return arrays


@pytest.mark.parametrize(
    ("name", "pattern", "sparsity"),
    [
        ("alps_70", "unstructured", 0.7),
        ("alps_2of4", "2:4", None),
        ("alps_4of8", "4:8", None),
        ("admm_75_mended", "unstructured", 0.75),
        ("admm_2of4", "2:4", None),
    ],
)
def test_the_result_is_the_authors_own(golden, name, pattern, sparsity):
    weight, inputs, expected = golden["W"], golden["X"].t(), golden[f"Wp_{name}"]
    method = name.split("_")[0]
    own = TEN_STEPS if method == "alps" else {}
    found, facts = facts_of(method, weight, inputs, pattern, sparsity, **own)
    assert ((found != 0) == (expected != 0)).float().mean() >= 0.999
    errors = [error(weight, pruned, inputs) for pruned in (found, expected)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)
    kept = (found != 0) & (expected != 0)
    assert float((found - expected)[kept].abs().median()) < 1e-5
    if method == "alps":
        iterations, rho = golden[f"steps_{name}"].tolist()
        # Where it ends for want of change, its code has not yet raised ρ.
        assert facts["admm_iterations"] == iterations
        assert facts["converged"] and facts["rho"] == pytest.approx(rho, rel=0.11)


def test_admm_by_rows_has_the_authors_error(golden):
    """Its code takes the same count of each row while the sparsity grows, so masks differ a bit."""
    weight, inputs = golden["W"], golden["X"].t()
    asked = {"sparsity": 0.75, "scope": "row", "inputs": inputs}
    found = prune_weight(weight, "admm", "unstructured", **asked)
    assert ((found == 0).sum(1) == 48).all()
    expected = error(weight, golden["Wp_admm_75_row"], inputs)
    assert error(weight, found, inputs) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("pattern", "sparsity"), PATTERNS)
def test_the_converged_solution_is_never_worse_than_ten_steps(pattern, sparsity):
    gains = []
    for seed in SEEDS:
        weight, inputs = layer(seed, columns=96, noise=0.1)
        ten, few = facts_of("alps", weight, inputs, pattern, sparsity, **TEN_STEPS)
        end, facts = facts_of("alps", weight, inputs, pattern, sparsity)
        assert torch.equal(ten == 0, end == 0)
        assert few["iterations"] == 10 and facts["residual"] <= 1e-3
        errors = [dampened_error(weight, pruned, inputs) for pruned in (ten, end)]
        gains.append(errors[0] / errors[1] - 1)
    assert min(gains) >= -1e-6 and max(gains) > 1e-5


@pytest.mark.parametrize("pattern", ["2:4", "unstructured"])
@pytest.mark.parametrize("method", METHODS)
def test_both_beat_other_masks_with_the_best_weights_for_them(method, pattern):
    """ADMM-Grad's own weights are not the best for its mask, so they get the update too."""
    sparsity = 0.7 if pattern == "unstructured" else None
    means = {}
    for name in (method, "wanda", "sparsegpt"):
        errors = []
        for seed in SEEDS:
            weight, inputs = layer(seed)
            pruned = prune_weight(weight, name, pattern, sparsity=sparsity, inputs=inputs)
            best, _ = least_squares.update_linear(weight, pruned != 0, statistics(inputs))
            errors.append(error(weight, best, inputs))
        means[name] = sum(errors) / len(errors)
    assert means[method] < min(means["wanda"], means["sparsegpt"])


@pytest.mark.parametrize(("pattern", "sparsity"), PATTERNS)
@pytest.mark.parametrize("method", METHODS)
def test_the_scale_of_inputs_and_the_order_of_outputs_play_no_part(method, pattern, sparsity):
    weight, inputs = layer(1)
    asked = {"sparsity": sparsity, "inputs": inputs}
    found = prune_weight(weight, method, pattern, **asked)
    larger = prune_weight(weight, method, pattern, sparsity=sparsity, inputs=4 * inputs)
    assert torch.equal(larger, found)
    order = torch.randperm(len(weight), generator=torch.Generator().manual_seed(0))
    permuted = prune_weight(weight[order], method, pattern, **asked)
    assert torch.equal(permuted == 0, found[order] == 0)
    assert torch.allclose(permuted, found[order], rtol=0, atol=1e-4)


@pytest.mark.parametrize("scope", ["row", "layer"])
@pytest.mark.parametrize("method", METHODS)
def test_fewer_tokens_than_inputs_give_the_exact_count(method, scope):
    weight, inputs = layer(2, tokens=20)
    asked = {"sparsity": 0.6, "scope": scope, "inputs": inputs}
    found = prune_weight(weight, method, "unstructured", **asked)
    assert int((found == 0).sum()) == int(0.6 * weight.numel())
    if scope == "row":
        assert set((found == 0).sum(1).tolist()) == {28, 29}


def test_a_hessian_that_is_not_positive_definite_is_dampened_and_says_so():
    weight, hessian = layer(3, columns=8)[0], torch.eye(8)
    alps, pattern = method_module("alps"), parse_pattern("2:4")
    own = method_settings("alps", {"dampening": 0.0})
    _, sound = alps.prune_linear(weight, InputStats(20, hessian=hessian.clone()), pattern, **own)
    assert sound["dampening"] == 0 and not sound["fallbacks"]
    hessian[0, 1] = hessian[1, 0] = 1.01  # as rounding of few tokens may leave it
    pruned, facts = alps.prune_linear(weight, InputStats(20, hessian=hessian), pattern, **own)
    assert int((pruned == 0).sum()) == weight.numel() // 2 and pruned.isfinite().all()
    assert facts["dampening"] > 0 and "dampening 0" in facts["fallbacks"][0]


def test_linears_that_share_an_input_share_its_eigenvalues(monkeypatch):
    calls, eigh = [], torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: calls.append(1) or eigh(matrix))
    weight, inputs = layer(4)
    stats, alps = statistics(inputs), method_module("alps")
    for part in (weight[:8], weight[8:]):
        alps.prune_linear(part, stats, parse_pattern("2:4"), **alps.SETTINGS)
    assert calls == [1]


@pytest.mark.parametrize(
    ("method", "change", "said"),
    [
        ("alps", {"rho": 0.0}, "rho above 0"),
        ("alps", {"iterations": -1}, "no other below 0"),
        ("admm", {"growing_iterations": 21}, "growing_iterations ≤ iterations"),
        ("admm", {"dampening": -1.0}, "dampening ≥ 0"),
    ],
)
def test_settings_out_of_range_are_refused(method, change, said):
    weight, inputs = layer(5)
    with pytest.raises(PrunegridError, match=said):
        prune_weight(weight, method, "2:4", inputs=inputs, **change)
