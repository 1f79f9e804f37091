"""Planted faults of recovery: whoever fills a zero fails the job."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.finetuning.strategies import qlora
from prunegrid.finetuning.training import sparsity
from prunegrid.models import (
    blocks,
    checkpoint,
    masked_lora,
    open_checkpoint,
    quantized,
    split_checkpoint,
)
from tests.helpers import tiny
from tests.helpers.tuning import PATTERNS, change, tune

pytestmark = pytest.mark.model


def test_a_moved_zero_is_seen(tmp_path, monkeypatch):
    """As many zeros as before, but one elsewhere: counts alone would not tell."""
    parent = tiny.artifact(tmp_path / "parent", "llama", "unstructured")
    real = checkpoint.write_plain

    def planted(model, *rest, **named):
        weight = blocks.oriented(next(iter(blocks.prunable(model).values())))
        zero, other = (weight == 0).nonzero()[0], weight.nonzero()[0]
        weight[tuple(zero)], weight[tuple(other)] = weight[tuple(other)].clone(), 0.0
        return real(model, *rest, **named)

    monkeypatch.setattr(checkpoint, "write_plain", planted)
    with pytest.raises(AttestationError, match="filled 1 of .* pruned places"):
        tune(tmp_path, parent, "full", max_steps=1)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_mask_forgotten_after_one_step_is_seen(tmp_path, monkeypatch, pattern):
    parent = tiny.artifact(tmp_path / "parent", "llama", pattern)
    real = sparsity.masker

    def planted(model, masks):
        weights, gradients = real(model, masks)
        calls = []

        def once():
            calls.append(1)
            if len(calls) != 3:
                weights()

        return once, None

    monkeypatch.setattr(sparsity, "masker", planted)
    with pytest.raises(AttestationError, match="pruned places"):
        tune(tmp_path, parent, "full", max_steps=3)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_merge_without_its_mask_is_seen(tmp_path, monkeypatch, kind):
    parent = tiny.artifact(tmp_path / "parent", kind, "2:4")
    real = masked_lora.merge

    def planted(model):
        for layer in masked_lora.layers(model).values():
            layer.kept = None
        return real(model)

    monkeypatch.setattr(masked_lora, "merge", planted)
    # The probe sees it first: the merged model computes something else.
    with pytest.raises(PrunegridError, match="merging the adapter changed the logits"):
        tune(tmp_path, parent, "lora", "probed", max_steps=4, learning_rate=2e-2)
    monkeypatch.setattr("prunegrid.finetuning.strategies.lora.MERGE_TOLERANCE", float("inf"))
    with pytest.raises(AttestationError, match="pruned places"):
        tune(tmp_path, parent, "lora", "kept", max_steps=4, learning_rate=2e-2)


def test_masking_forgotten_at_the_end_is_seen(tmp_path, monkeypatch):
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    monkeypatch.setattr(sparsity, "masker", lambda model, masks: (lambda: None, None))
    with pytest.raises(AttestationError, match="pruned places"):
        tune(tmp_path, parent, "lora", adapter="masked-after", max_steps=2)


def test_codes_that_fill_zeros_are_seen(tmp_path, monkeypatch):
    """A quantizer whose grid has no zero (as one with an offset) fails quantizing and merging."""
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    real = quantized.dequantize
    monkeypatch.setattr(quantized, "dequantize", lambda module: real(module) + 1e-3)
    settings = {"strategy": "quantize", "precision": "nf4", "double_quant": True}
    with pytest.raises(AttestationError, match="pruned places"):
        change(tmp_path, parent, **settings)
    with pytest.raises(AttestationError, match="pruned places"):
        tune(tmp_path, parent, "qlora", "merged", adapter="merged", max_steps=1)


def test_summing_without_the_mask_is_seen(tmp_path, monkeypatch):
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    wrap = masked_lora.wrap
    monkeypatch.setattr(masked_lora, "wrap", lambda m, n, masks, s: wrap(m, n, {}, s))
    real = qlora.summed
    monkeypatch.setattr(qlora, "summed", lambda m, masks: real(m, {}))
    with pytest.raises(AttestationError, match="pruned places"):
        tune(tmp_path, parent, "qlora", adapter="merged", max_steps=4, learning_rate=2e-2)


@pytest.mark.parametrize("damage", ["swapped", "removed"])
def test_other_masks_are_refused_on_loading(tmp_path, damage):
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    _, out = tune(tmp_path, parent, "lora", adapter="unmerged", max_steps=2)
    masks = load_file(out / split_checkpoint.MASKS)
    (out / split_checkpoint.MASKS).unlink()
    if damage == "swapped":
        # Of two linears of one shape.
        first, second = [n for n in masks if n.endswith("q_proj")][:2]
        assert not torch.equal(masks[first], masks[second])
        masks[first], masks[second] = masks[second], masks[first]
        save_file(masks, out / split_checkpoint.MASKS)
    with pytest.raises(AttestationError, match="sha256"):
        open_checkpoint.load(out)
