"""The masked product against autograd over the plain expression; what is held changes no number."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from prunegrid.artifacts import artifact_folder
from prunegrid.common import held_weights
from prunegrid.models import masked_lora, quantized
from tests.helpers import tiny
from tests.helpers.tuning import tune

pytestmark = pytest.mark.model


def layer_of(d_out, d_in, seed=0, dropout=0.0):
    """Return a masked adapter of rank 2 over a linear that is zero under its mask."""
    torch.manual_seed(seed)
    mask = torch.rand(d_out, d_in) > 0.5
    linear = torch.nn.Linear(d_in, d_out)
    with torch.no_grad():
        linear.weight.mul_(mask)
    linear.requires_grad_(False)
    config = masked_lora.LoraConfig(r=2, lora_alpha=6, lora_dropout=dropout)
    layer = masked_lora.MaskedLinear(linear, "default", config, r=2, lora_alpha=6)
    layer.kept = mask
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    return layer.train()


def naive(layer, x):
    """Return x (W + M ∘ (α/r) B A)ᵀ + b as autograd sees it."""
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    linear = layer.get_base_layer()
    return F.linear(x, linear.weight + 3.0 * (b @ a) * layer.kept, linear.bias)


def steps_of(forward, layer, count=4):
    """Return all outputs, and the factors after some steps of the optimizer that training uses."""
    factors = [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    optimizer = torch.optim.AdamW(factors, lr=0.1, fused=True)
    draw, outputs = torch.Generator().manual_seed(1), []
    for _ in range(count):
        # Two micro-batches a step: a sum that is held is used more than once.
        for _ in range(2):
            out = forward(torch.randn(3, 5, layer.in_features, generator=draw))
            out.square().sum().backward()
            outputs.append(out.detach().clone())
        optimizer.step()
        optimizer.zero_grad()
    return [*outputs, *(factor.detach().clone() for factor in factors)]


@pytest.mark.parametrize("held", [False, True])
def test_training_is_that_of_the_plain_expression(held):
    layer, twin = layer_of(6, 8), layer_of(6, 8)
    layer.hold = held
    found, expected = steps_of(layer, layer), steps_of(lambda x: naive(twin, x), twin)
    for one, two in zip(found, expected, strict=True):
        assert torch.allclose(one, two, atol=1e-4, rtol=1e-4)
    assert bool(layer.held) == held


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_what_is_held_changes_no_bit(dtype, dropout):
    results = []
    for held in (False, True):
        layer = layer_of(6, 8, dropout=dropout)
        layer.hold = held
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            results.append(steps_of(layer, layer))
    assert results[0][0].dtype == dtype
    assert all(map(torch.equal, *results))


def test_layers_that_share_scratch_do_not_meet():
    """The passes of two layers are interleaved; the gradients are those of each alone."""
    alone = []
    for shape in ((6, 8), (5, 8)):
        layer = layer_of(*shape, seed=shape[0])
        x = torch.randn(4, 8, generator=torch.Generator().manual_seed(2)).requires_grad_()
        out = layer(x)
        alone.append((out, *torch.autograd.grad(out.sum(), [x, *trained(layer)])))
    layers = [layer_of(6, 8, seed=6), layer_of(5, 8, seed=5)]
    layers[1].scratch = layers[0].scratch
    inputs = [torch.randn(4, 8, generator=torch.Generator().manual_seed(2)) for _ in layers]
    outputs = [layer(x.requires_grad_()) for layer, x in zip(layers, inputs, strict=True)]
    for layer, x, out, expected in zip(layers, inputs, outputs, alone, strict=True):
        found = (out, *torch.autograd.grad(out.sum(), [x, *trained(layer)]))
        assert all(map(torch.equal, found, expected))


def trained(layer):
    return [layer.lora_A["default"].weight, layer.lora_B["default"].weight]


def test_a_factor_that_is_set_is_seen():
    """Whatever way it is set: in place, through .data, or by a fused optimizer (see above)."""
    layer = layer_of(6, 8)
    layer.hold = True
    x = torch.randn(4, 8)
    for change in (lambda p: p.data.mul_(2), lambda p: setattr(p, "data", p.data + 1)):
        layer(x)
        change(layer.lora_A["default"].weight)
        assert torch.allclose(layer(x), naive(layer, x), atol=1e-4)


def test_masked_places_are_zero_whatever_the_factors_hold():
    layer = layer_of(6, 8)
    with torch.no_grad():
        layer.lora_B["default"].weight.fill_(float("inf"))
    delta, kept = layer.delta(), layer.kept
    assert (delta[~kept] == 0).all() and not torch.isfinite(delta[kept]).any()


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"]])
@pytest.mark.parametrize("strategy", ["lora", "qlora"])
def test_a_tuning_has_the_same_bytes_held_and_formed(tmp_path, monkeypatch, strategy, targets):
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    terms = {"targets": targets, "accumulate": 2, "batch_size": 2, "max_steps": 3}
    passes, real = [], quantized.dequantize
    monkeypatch.setattr(quantized, "dequantize", lambda m: passes.append(1) or real(m))
    files, counts = [], []
    for choice in ("hold", "form"):
        job = tiny.job()
        job.memory["adapted"] = choice
        monkeypatch.setattr(tiny, "job", lambda job=job: job)
        passes.clear()
        _, out = tune(tmp_path, parent, strategy, choice, **terms)
        (out / artifact_folder.MANIFEST).unlink()
        files.append(artifact_folder.list_files(out))
        counts.append(len(passes))
    assert files[0] == files[1]
    assert (counts[0] < counts[1]) == (strategy == "qlora")


@pytest.mark.parametrize(("processes", "held"), [(1, True), (2, False)])
def test_processes_that_share_a_model_hold_no_whole_weights(processes, held):
    assert held_weights.holds({"adapted": "hold"}, "cuda:0", processes) == held
    assert held_weights.holds({"adapted": "auto"}, "cpu", processes) == held
    assert not held_weights.holds({"adapted": "auto"}, "cuda", processes)
    assert not held_weights.holds({"adapted": "form"}, "cpu", processes)
