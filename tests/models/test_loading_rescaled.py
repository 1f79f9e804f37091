"""A model that divides its own weights in eval mode keeps them as they are stored."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, RwkvConfig

from prunegrid.models import loading

pytestmark = pytest.mark.model


def test_rwkv_keeps_its_weights_and_computes_the_same(tmp_path):
    """Seven blocks, of which plain transformers halves the last one's, and all hidden states."""
    torch.manual_seed(0)
    config = RwkvConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=7, context_length=32, rescale_every=3
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    model = loading.read_model(tmp_path)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ids = torch.arange(9)[None]
    with torch.no_grad():
        found, wanted = model(ids).logits, plain(ids).logits
    assert torch.allclose(found, wanted, atol=1e-4)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    stored = plain.state_dict()
    assert not all(torch.equal(before[name], stored[name]) for name in before)
