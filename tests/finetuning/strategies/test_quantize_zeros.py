"""Weights in another precision: near the old ones, and zero where these are."""

from __future__ import annotations

import pytest
import torch

from prunegrid.common.errors import PrunegridError
from prunegrid.models import checkpoint, open_checkpoint
from prunegrid.models.packed.packed_matrix import PackedMatrix, narrowest
from tests.helpers import tiny
from tests.helpers.tuning import KINDS, change, masks_of, places, tune, weights

pytestmark = pytest.mark.model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8_values", "int8", "nf4"])
def test_any_precision_keeps_the_zeros(tmp_path, kind, precision):
    parent = tiny.artifact(tmp_path / "parent", kind, "2:4")
    settings = {"strategy": "quantize", "precision": precision, "double_quant": True}
    record, out = change(tmp_path, parent, **settings)
    facts = record["weights"]
    stored = "float32" if precision == "int8_values" else precision
    assert facts["precision"] == stored and facts["nm_valid"] is True
    assert facts["adapter"] == "none"
    assert record["transform"]["zeros_filled"] == 0
    before, masks = weights(parent), masks_of(parent)
    worst = {"float32": 0, "bfloat16": 2**-8, "int8_values": 0.501 / 127, "int8": 1 / 127}
    worst = worst.get(precision, 0.2)
    for name, (base, both) in places(out).items():
        assert torch.equal(base, both) and not base[~masks[name]].any()
        assert (base.float() - before[name]).abs().max() <= worst * before[name].abs().max()
    assert open_checkpoint.load(out).record == facts
    assert facts["sha256"] == checkpoint.file_weights_sha256(out)
    assert open_checkpoint.load(parent).record["parameters"] == facts["parameters"]


def test_int8_values_are_what_packed_weights_hold(tmp_path):
    parent = tiny.artifact(tmp_path / "parent", "gpt2", "unstructured", dtype=torch.bfloat16)
    _, out = change(tmp_path, parent, strategy="quantize", precision="int8_values")
    _, again = change(tmp_path, out, "again", strategy="quantize", precision="int8_values")
    before, once, twice = weights(parent), weights(out), weights(again)
    for name, weight in once.items():
        assert narrowest(weight) == "int8" and torch.equal(weight, twice[name])
        assert not torch.equal(weight, before[name].float())
        assert torch.equal(weight, PackedMatrix.of(before[name].float(), "int8").dense())


def test_a_tuned_model_in_another_precision(tmp_path):
    """{pruned} x {tuned} x {nf4}: the adapter that was merged before stays in the record."""
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    _, tuned = tune(tmp_path, parent, "lora", max_steps=2)
    settings = {"strategy": "quantize", "precision": "nf4", "double_quant": True}
    record, out = change(tmp_path, tuned, "packed", **settings)
    assert record["weights"]["adapter"] == "merged" and record["weights"]["nm_valid"] is True
    ids = torch.randint(3, 40, (2, 9))
    with torch.no_grad():
        plain = open_checkpoint.load(out).model(input_ids=ids).logits
        cached = open_checkpoint.load(out, cache_dequantized=True).model
        for _ in range(2):
            assert torch.equal(cached(input_ids=ids).logits, plain)
    with pytest.raises(PrunegridError, match="expected plain weights"):
        change(tmp_path, out, "again", **settings)
