"""The closed-form correction: exact where it can be, never worse, and the same as by iteration."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from prunegrid.common.errors import PrunegridError
from prunegrid.models import checkpoint
from prunegrid.pruning.input_stats import InputStats
from prunegrid.pruning.paired_inputs import inputs_of
from prunegrid.pruning.structured.output_correction import corrected
from prunegrid.pruning.updates.least_squares import update_linear
from tests.helpers import shrunken
from tests.helpers.architectures import build, by_output

pytestmark = pytest.mark.model


def hessian_of(inputs):
    return (2 / len(inputs)) * inputs.t() @ inputs


@pytest.fixture
def some():
    """Correlated inputs [400, 12], a weight [7, 12], and four columns that go."""
    draw = torch.Generator().manual_seed(1)
    mixed = torch.randn(400, 12, generator=draw) @ torch.randn(12, 12, generator=draw)
    gone = torch.zeros(12, dtype=torch.bool)
    gone[[0, 3, 4, 11]] = True
    return mixed, torch.randn(7, 12, generator=draw), gone


def test_without_dampening_it_is_the_formula(some):
    inputs, weight, gone = some
    hessian = hessian_of(inputs)
    new, facts = corrected(weight, gone, hessian, dampening=0.0)
    kept = ~gone
    exact = hessian.double()
    wanted = weight.double() @ exact[:, kept] @ torch.linalg.inv(exact[kept][:, kept])
    assert torch.allclose(new[:, kept].double(), wanted, rtol=1e-4, atol=1e-5)
    assert (new[:, gone] == 0).all()
    # The errors that it tells are those of the outputs, and the best that there are.
    dense = inputs @ weight.t()
    for error, made in (("error_before", weight * kept), ("error_after", new)):
        found = (inputs @ made.t() - dense).square().sum() / dense.square().sum()
        assert facts[error] == pytest.approx(float(found), rel=1e-3)
    best = torch.linalg.lstsq(inputs[:, kept], dense).solution.t()
    assert torch.allclose(new[:, kept], best, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dampening", [0.001, 0.01, 0.3])
def test_it_is_what_the_iterative_update_comes_to(some, dampening):
    inputs, weight, gone = some
    hessian = hessian_of(inputs)
    new, _ = corrected(weight, gone, hessian, dampening=dampening)
    kept = (~gone).expand_as(weight)
    stats = InputStats(len(inputs), hessian.diagonal() / 2, hessian)
    other, _ = update_linear(
        weight, kept, stats, dampening=dampening, iterations=500, tolerance=1e-7
    )
    assert torch.allclose(new, other, rtol=1e-3, atol=1e-4)


def test_what_is_a_combination_of_kept_inputs_goes_without_loss(some):
    inputs, weight, gone = some[0].double(), some[1].double(), some[2]
    mixing = torch.randn(8, 4, generator=torch.Generator().manual_seed(2))
    inputs[:, gone] = inputs[:, ~gone] @ mixing.double()
    hessian = hessian_of(inputs)
    new, facts = corrected(weight, gone, hessian, dampening=1e-9)
    assert facts["error_before"] > 0.1
    # The error cancels but for the rounding of H, whose entries are sums of 400 products: at most
    # 400 ε of the sums of their magnitudes. The dampening adds its square, about 1e-16.
    change, scale = (new - weight).abs(), ((weight @ hessian) * weight).sum()
    magnitude = ((change @ hessian_of(inputs.abs())) * change).sum() / scale
    assert facts["error_after"] < 400 * torch.finfo(torch.float64).eps * magnitude
    assert torch.allclose(inputs @ new.t(), inputs @ weight.t(), rtol=1e-5, atol=1e-5)


def test_a_hessian_without_an_inverse_is_dampened_and_dead_inputs_do_no_harm(some):
    inputs, weight, gone = some
    inputs[:, 5] = inputs[:, 6]
    inputs[:, 7] = 0
    new, facts = corrected(weight, gone, hessian_of(inputs), dampening=0.0)
    assert torch.isfinite(new).all() and facts["error_after"] <= facts["error_before"]
    assert torch.equal(new[:, 7], weight[:, 7])
    with pytest.raises(PrunegridError, match="not positive definite"):
        corrected(weight, gone, -100 * torch.eye(12) - hessian_of(inputs), dampening=0.01)


def test_more_dampening_moves_less(some):
    inputs, weight, gone = some
    moved = [
        float((corrected(weight, gone, hessian_of(inputs), dampening=d)[0] - weight * ~gone).norm())
        for d in (0.0, 0.1, 1.0, 10.0)
    ]
    assert moved == sorted(moved, reverse=True) and moved[0] > 2 * moved[-1]


@pytest.mark.parametrize(
    ("name", "units"), [("llama", ["heads", "mlp"]), ("gpt2", ["mlp"]), ("opt-350m", ["mlp"])]
)
def test_a_model_is_corrected_in_the_order_in_which_it_runs(tmp_path, name, units):
    """Each output linear's new weight, by its inputs in the model corrected so far."""
    weights = shrunken.artifact(tmp_path / "model", build(name))
    tokens = shrunken.windows()
    asked = {"method": "wanda", "units": units, "sparsity": 0.3}
    record, story = shrunken.shrink(
        tmp_path / "out", weights, tokens, update="least_squares", **asked
    )
    small = dict(AutoModelForCausalLM.from_pretrained(tmp_path / "out").named_modules())
    own, names = build(name), shrunken.NAMES[name]
    modules = dict(own.named_modules())
    for block, kinds in story["blocks"].items():
        for kind in sorted(kinds):
            width = shrunken.HEAD * shrunken.QUERIES if kind == "heads" else 1
            linear = f"{block}.{names[kind][-1]}"
            if not kinds[kind]["indices"]:
                continue
            gone = [width * unit + i for unit in kinds[kind]["indices"] for i in range(width)]
            with torch.no_grad():
                seen = inputs_of({linear: modules[linear]}, lambda: own(tokens))
            inputs = seen[linear][0].flatten(0, -2)
            mask = torch.zeros(inputs.shape[1], dtype=torch.bool)
            mask[gone] = True
            weight = by_output(modules[linear])
            new, facts = corrected(weight.clone(), mask, hessian_of(inputs))
            weight.copy_(new)
            # A dampening of 0.01 bounds the condition of H for its inputs.
            atol = len(mask) / 0.01 * torch.finfo(torch.float32).eps
            assert torch.allclose(by_output(small[linear]), new[:, ~mask], rtol=0, atol=atol)
            told = story["corrected"][linear]
            assert told["error_after"] == pytest.approx(facts["error_after"], rel=1e-2, abs=1e-6)
            assert told["error_after"] < told["error_before"]
    assert record["update"] == "least_squares" and record["samples"] == len(tokens)


def test_the_correction_brings_outputs_nearer_to_the_dense_models(tmp_path):
    weights = shrunken.artifact(tmp_path / "model", build("llama"))
    tokens, errors = shrunken.windows(), {}
    dense = build("llama")
    for update in ("none", "least_squares"):
        asked = {"method": "wanda", "units": ["mlp"], "sparsity": 0.3, "update": update}
        shrunken.shrink(tmp_path / update, weights, tokens, **asked)
        made = checkpoint.load(tmp_path / update).model
        with torch.no_grad():
            errors[update] = float((made(tokens).logits - dense(tokens).logits).square().mean())
    assert errors["least_squares"] < errors["none"]
