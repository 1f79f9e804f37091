"""Packed weights of every shape, against codes that are unpacked here."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, conversion_mapping
from transformers.core_model_loading import PrefixChange, WeightRenaming

from prunegrid.models import checkpoint, quantized

pytestmark = pytest.mark.model

BLOCK = 64
# Rows that are a multiple of the block, parts of one, more than one, and of odd length.
SHAPES = [(8, 64), (8, 128), (24, 16), (10, 40), (5, 96), (4, 66), (6, 33), (3, 5), (1, 7)]


def packed(shape, double_quant):
    """Return a linear of bitsandbytes with drawn weights, and those weights."""
    import bitsandbytes

    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    # Blocks of unlike size: a scale that is taken for another's shows.
    weight *= torch.logspace(-2, 2, weight.numel()).view(shape)
    linear = bitsandbytes.nn.Linear4bit(
        shape[1], shape[0], bias=False, quant_type="nf4", compress_statistics=double_quant
    )
    linear.weight = bitsandbytes.nn.Params4bit(
        weight.clone(), requires_grad=False, quant_type="nf4", compress_statistics=double_quant
    ).to("cpu")
    return linear, weight


def unpacked(linear, shape):
    """Return the weights by the codes: two in a byte, a scale for each 64 in their order."""
    state, count = linear.weight.quant_state, shape[0] * shape[1]
    codes = linear.weight.data.view(torch.uint8).flatten()
    codes = torch.stack([codes >> 4, codes & 15], dim=1).flatten()[:count]
    scales = state.absmax.repeat_interleave(BLOCK)[:count]
    return (state.code[codes.long()] * scales).view(shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_nf4_of_any_shape_is_its_codes_times_its_scales(shape):
    linear, weight = packed(shape, double_quant=False)
    found = quantized.dequantize(linear)
    assert torch.equal(found, unpacked(linear, shape))
    # Half of NF4's widest gap, of the block's largest weight.
    flat = weight.flatten()
    for start in range(0, len(flat), BLOCK):
        block = slice(start, start + BLOCK)
        apart = (found.flatten()[block] - flat[block]).abs().max()
        assert apart <= 0.16 * flat[block].abs().max()


@pytest.mark.parametrize("shape", SHAPES)
def test_zeros_stay_zero_in_nf4_of_any_shape(shape):
    linear, weight = packed(shape, double_quant=True)
    import bitsandbytes

    kept = torch.arange(weight.numel()).view(shape) % 2 == 0
    linear.weight = bitsandbytes.nn.Params4bit(
        weight * kept, requires_grad=False, quant_type="nf4", compress_statistics=True
    ).to("cpu")
    assert not quantized.dequantize(linear)[~kept].any()


def test_linears_of_another_class_stay_plain():
    class Own(nn.Linear):
        pass

    class Small(nn.Module):
        _no_split_modules = ("ModuleDict",)

        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(12, 4)
            block = {"one": nn.Linear(4, 4), "own": Own(4, 4)}
            self.layers = nn.ModuleList([nn.ModuleDict(block)])

        def get_input_embeddings(self):
            return self.table

        def forward(self, ids, use_cache=None):
            x = self.table(ids)
            for block in self.layers:
                x = block["own"](block["one"](x))
            return x

    reasons = quantized.require_packable(Small(), "test")
    assert list(reasons) == ["layers.0.own"] and "Linear" in reasons["layers.0.own"]


# Names of a first release, by patterns that match today's names too: `.` is any character.
RENAMINGS = {
    "a letter more": ([WeightRenaming("self_attn.q_pro.", "self_attn.q_proj.")], ["q_proj"]),
    "two patterns": (
        [WeightRenaming("mlp.up.", "mlp.up_up."), WeightRenaming("attn.v.", "attn.values.")],
        ["up_proj", "v_proj"],
    ),
    "a prefix": ([PrefixChange(prefix_to_remove="model")], []),
    "no match": ([WeightRenaming("attention.query", "self_attn.q_proj")], []),
}


@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.parametrize("renamings,plain", RENAMINGS.values(), ids=RENAMINGS)
def test_linears_whose_names_do_not_survive_reading_stay_plain(
    renamings, plain, kind, tmp_path, monkeypatch
):
    known = conversion_mapping.get_checkpoint_conversion_mapping
    monkeypatch.setattr(
        conversion_mapping,
        "get_checkpoint_conversion_mapping",
        lambda name: renamings if name == "llama" else known(name),
    )
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    for folder in ("plain", "packed"):
        (tmp_path / folder).mkdir()
    checkpoint.save_model(model, tmp_path / "plain")
    reasons = quantized.require_packable(model, "test")
    assert {name.rpartition(".")[2] for name in reasons} == set(plain)
    made = quantized.quantize(tmp_path / "plain", "cpu", kind, False, reasons)
    checkpoint.save_model(made, tmp_path / "packed")
    read = quantized.read_packed(tmp_path / "packed", "cpu")
    ids = torch.arange(3, 11)[None]
    assert torch.equal(read(ids).logits, made(ids).logits)


def test_a_packed_linear_that_is_given_no_floats_is_an_error():
    """The model of T5 gives a linear its input in the dtype of its weight."""
    module = packed((8, 64), double_quant=False)[0]
    quantized.compute_dequantized(module)
    given = torch.randn(2, 64)
    assert torch.allclose(module(given), given @ quantized.dequantize(module).T, atol=1e-5)
    with pytest.raises(TypeError, match="uint8, not floats"):
        module(given.to(module.weight.dtype))
