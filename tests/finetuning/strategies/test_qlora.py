"""QLoRA: a packed base with a masked adapter that loads again as what was trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.models import (
    blocks,
    checkpoint,
    masked_lora,
    open_checkpoint,
    quantized,
    split_checkpoint,
)
from prunegrid.stages import efficiency, predictions
from tests.helpers import tiny
from tests.helpers.tuning import tune

pytestmark = pytest.mark.model

CASES = [("llama", "nf4"), ("opt", "nf4"), ("gpt2", "nf4"), ("llama", "int8"), ("opt", "int8")]


@pytest.mark.parametrize("kind,packing", CASES)
@pytest.mark.parametrize("pattern", [None, "2:4"])
def test_trains_and_keeps_zeros(tmp_path, kind, packing, pattern):
    parent = tiny.artifact(tmp_path / "parent", kind, pattern)
    record, out = tune(
        tmp_path, parent, "qlora", quantization=packing, learning_rate=2e-2, epochs=4
    )
    facts, train = record["weights"], record["train"]
    assert train["last_loss"] < 0.85 * train["first_loss"]
    assert facts["precision"] == packing and facts["adapter"] == "unmerged"
    assert facts["sha256"] == checkpoint.file_weights_sha256(out)
    loaded = open_checkpoint.load(out)
    assert loaded.record == facts
    assert facts["nm_valid"] is (True if pattern else None)
    adapter = sum(t.numel() for n, t in loaded.tensors.items() if n.startswith("adapter/"))
    plain = open_checkpoint.load(parent)
    assert facts["parameters"] == plain.record["parameters"] + adapter
    if pattern:
        for name, module in blocks.prunable(plain.model).items():
            layer = masked_lora.layers(loaded.model)[name]
            total = quantized.dequantize(layer.get_base_layer()) + layer.delta()
            zeros = blocks.oriented(module) == 0
            assert (total[zeros] == 0).all() and zeros.any(), name
        assert facts["sparsity_prunable"] >= 0.5
        assert 0.5 <= facts["sparsity_effective"] <= facts["sparsity_prunable"]
    else:
        assert facts["sparsity_effective"] < 0.01
        assert not (out / "masks.safetensors").exists()


@pytest.mark.parametrize("packing", ["nf4", "int8"])
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "k_proj"]])
def test_loads_again_with_the_same_outputs(tmp_path, monkeypatch, packing, targets):
    """Also linears without an adapter compute alike in training, after it, and loaded again."""
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    ids = torch.randint(3, 40, (2, 9))
    seen = {}
    save = split_checkpoint.save

    def spy(model, *rest, **named):
        with torch.no_grad():
            seen["trained"] = model(input_ids=ids).logits
        return save(model, *rest, **named)

    monkeypatch.setattr(split_checkpoint, "save", spy)
    _, out = tune(tmp_path, parent, "qlora", quantization=packing, targets=targets)
    with torch.no_grad():
        loaded = open_checkpoint.load(out)
        assert torch.equal(loaded.model(input_ids=ids).logits, seen["trained"])
        quantized.hold_weights(loaded.model, True)
        assert torch.equal(loaded.model(input_ids=ids).logits, seen["trained"])
        # Measuring after use finds the same tensors: nothing was repacked by running.
        held = split_checkpoint.split_tensors(loaded.model)
    named = {f"{part}/{n}": t for part, ts in held.items() for n, t in ts.items()}
    assert all(torch.equal(named[n], t) for n, t in open_checkpoint.load(out).tensors.items())


def test_a_forgotten_mask_is_seen(tmp_path, monkeypatch):
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    wrap = masked_lora.wrap
    monkeypatch.setattr(masked_lora, "wrap", lambda m, n, masks, s: wrap(m, n, {}, s))
    with pytest.raises(AttestationError, match="filled .* pruned places"):
        tune(tmp_path, parent, "qlora")


def test_no_second_tuning(tmp_path):
    parent = tiny.artifact(tmp_path / "parent", "llama")
    _, out = tune(tmp_path, parent, "qlora", max_steps=1)
    with pytest.raises(PrunegridError, match="expected plain weights"):
        tune(tmp_path, out, "full", "again")


def test_generates_and_is_timed(tmp_path):
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    record, out = tune(tmp_path, parent, "qlora", max_steps=2)
    (tmp_path / "p").mkdir()
    parents = {"weights": out, "data": tmp_path / "data"}
    found = predictions.run(tiny.generation(rows=4), parents, tmp_path / "p", tiny.job())
    assert found["weights"] == record["weights"]
    settings = {"warmup": 0, "repetitions": 1, "prompt_tokens": 4, "new_tokens": 2, "batch_size": 1}
    settings |= {"cache_dequantized": True, "sizes": True, "packed": None}
    (tmp_path / "e").mkdir()
    timed = efficiency.run(settings, {"weights": out}, tmp_path / "e", tiny.job())
    assert timed["file_bytes"] == sum(p.stat().st_size for p in out.rglob("*.safetensors"))
    # The adapter is merged for it, so that it is no larger than what was tuned.
    sizes = timed["sizes"]["bytes"]
    assert abs(sizes["dense_float32"] - (parent / "model.safetensors").stat().st_size) < 128
    assert timed["sizes"]["packed_as"]["nm"] == 14
    assert sizes["entropy_bound"] < sizes["packed"] < 0.8 * sizes["dense_float32"]
    assert [p.name for p in (tmp_path / "e").iterdir()] == ["efficiency.json"]


def test_masks_pack():
    mask = torch.from_numpy(np.random.default_rng(0).random((5, 13)) > 0.5)
    packed = quantized.pack_mask(mask)
    assert packed.shape == (5, 2)
    assert torch.equal(quantized.unpack_mask(packed, 13), mask)


def test_dequantized_zeros_are_exact():
    layer = quantized_linear()
    weight = quantized.dequantize(layer)
    assert (weight[:, ::2] == 0).all()
    assert (weight - layer.original).abs().max() < 0.2 * layer.original.abs().max()


def quantized_linear():
    import bitsandbytes as bnb

    torch.manual_seed(0)
    weight = torch.randn(64, 64)
    weight[:, ::2] = 0
    layer = bnb.nn.Linear4bit(64, 64, bias=False, quant_type="nf4")
    layer.weight = bnb.nn.Params4bit(weight.clone(), requires_grad=False, quant_type="nf4")
    layer = layer.to("cpu")
    layer.original = weight
    return layer
