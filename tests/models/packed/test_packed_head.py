"""The head in narrow values: the logits of the same weights, and the embedding tied to it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

import prunegrid
from prunegrid.models import checkpoint
from prunegrid.models.packed.packed_head import PackedEmbedding, find
from prunegrid.models.packed.packed_linear import PackedLinear
from prunegrid.models.packed.packed_matrix import PackedMatrix
from tests.helpers import architectures, tiny
from tests.helpers.packed_kernels import kernel_cache as kernel_cache  # fixtures
from tests.helpers.packed_kernels import kernels as kernels
from tests.helpers.rounding import close

pytestmark = pytest.mark.model

IDS = torch.tensor([[5, 9, 6, 30, 12], [3, 3, 38, 4, 7]])
TERMS = 4096


class Scaled(nn.Embedding):
    """An embedding that gives other rows than its weight's, as Gemma's does."""


def logits(model, ids=IDS):
    with torch.no_grad():
        return model(ids).logits


def saved(folder, tied: bool, dtype=torch.float32):
    model = tiny.model("llama", dtype=dtype)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().flip(0))
    tiny.prune_(model, "unstructured")
    folder.mkdir()
    checkpoint.write_plain(model, None, folder, "unstructured")
    return model.float()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("values", ["bfloat16", "int8"])
def test_the_head_has_narrow_values_and_its_embedding_has_them_too(kernels, tmp_path, values, tied):
    dense = saved(tmp_path / "plain", tied)
    model = prunegrid.load_packed(tmp_path / "plain", values)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    assert type(head) is PackedLinear and head.matrix.value_type == values
    assert type(embedding) is (PackedEmbedding if tied else nn.Embedding)
    assert model.packed_weights.forms["lm_head"].values == values
    rounded = PackedMatrix.of(dense.lm_head.weight.detach(), values).dense()
    dense.lm_head.weight.data.copy_(rounded)
    for linear in (m for m in dense.model.modules() if type(m) is nn.Linear):
        linear.weight.data = PackedMatrix.of(linear.weight.detach(), values).dense()
    for ids in (IDS, IDS[:1, :1], IDS[:, :0]):
        assert torch.equal(embedding(ids), dense.get_input_embeddings()(ids))
        if ids.numel():
            assert close(logits(model, ids), logits(dense, ids), TERMS)
    asked = {"max_new_tokens": 8, "do_sample": False}
    assert torch.equal(model.generate(IDS, **asked), dense.generate(IDS, **asked))


@pytest.mark.parametrize("tied", [True, False])
def test_exact_values_take_a_stored_bfloat16_head_as_it_is(kernels, tmp_path, tied):
    dense = saved(tmp_path / "plain", tied, torch.bfloat16)
    model = prunegrid.load_packed(tmp_path / "plain")
    facts = model.packed_weights
    assert facts.forms["lm_head"].values == "bfloat16"
    assert facts.dense_sha256() == facts.sha256
    weights = 2 * dense.lm_head.weight.numel() * 17 / 16
    whole = prunegrid.load_packed(tmp_path / "plain", "float32").packed_weights.resident_bytes()
    linears = facts.resident_bytes() - weights
    assert linears < whole - 4 * dense.lm_head.weight.numel()
    model.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    assert torch.equal(again.lm_head.weight, dense.lm_head.weight)
    assert torch.equal(again.model.embed_tokens.weight, dense.model.embed_tokens.weight)


def test_a_head_with_zeros_and_negative_zeros_keeps_them(kernels, tmp_path):
    model = tiny.model("llama")
    model.lm_head.weight.data[::2] *= (model.lm_head.weight[::2].abs() > 0.02).float()
    model.lm_head.weight.data[3] = 0.0
    model.lm_head.weight.data = model.lm_head.weight.data.bfloat16().float()
    model.model.embed_tokens.weight = model.lm_head.weight
    (tmp_path / "w").mkdir()
    checkpoint.write_plain(model, None, tmp_path / "w", "unstructured")
    packed = prunegrid.load_packed(tmp_path / "w")
    assert packed.packed_weights.forms["lm_head"].values == "bfloat16"
    assert packed.packed_weights.dense_sha256() == packed.packed_weights.sha256
    assert torch.equal(packed.get_input_embeddings()(IDS), model.model.embed_tokens(IDS))
    with pytest.raises(IndexError):
        packed.get_input_embeddings()(torch.tensor([model.config.vocab_size]))


def test_a_head_stays_dense_where_others_hold_its_weight_otherwise():
    """A scaled embedding gives other rows than the head's; a third holder would lose its weight."""
    plain = tiny.model("llama")
    assert find(plain).embedding == "model.embed_tokens"
    plain.model.embed_tokens.__class__ = Scaled
    assert find(plain) is None
    plain.model.embed_tokens.__class__ = nn.Embedding
    plain.third = nn.Linear(1, 1)
    plain.third.weight = plain.lm_head.weight
    assert find(plain) is None
    assert find(architectures.build("minilm")) is None


def test_without_kernels_head_and_embedding_are_torch_s_own(tmp_path, monkeypatch):
    monkeypatch.setattr("prunegrid.models.packed.operators.load", lambda named=None: None)
    dense = saved(tmp_path / "plain", True)
    model = prunegrid.load_packed(tmp_path / "plain", "int8")
    rounded = PackedMatrix.of(dense.lm_head.weight.detach(), "int8").dense()
    assert torch.equal(model.lm_head.weight, rounded)
    assert model.lm_head.weight is model.model.embed_tokens.weight
