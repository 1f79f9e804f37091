"""Packed weights: the numbers that codes and scales say, whatever the weight's shape."""

import bitsandbytes
import pytest
import torch

from prunegrid.models import quantized

pytestmark = pytest.mark.model

BLOCK = 64
NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
SHAPES = [(64, 64), (96, 32), (128, 16), (64, 96), (40, 24), (10, 20), (6, 130), (3, 8), (1, 256)]


def linear(weight):
    """Return a linear of bitsandbytes that holds a weight as NF4 with plain scales."""
    made = bitsandbytes.nn.Linear4bit(
        weight.shape[1], weight.shape[0], bias=False, quant_type="nf4", compress_statistics=False
    )
    made.weight = bitsandbytes.nn.Params4bit(
        weight, requires_grad=False, quant_type="nf4", compress_statistics=False, module=made
    )
    return made.to("cpu")


@pytest.mark.parametrize("shape", SHAPES)
def test_nf4_is_the_nearest_code_times_the_scale_of_its_block(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weight[:, ::3] = 0
    table, expected = torch.tensor(NF4), []
    for block in weight.reshape(-1).split(BLOCK):
        scale = block.abs().max()
        expected.append(table[(block[:, None] / scale - table).abs().argmin(1)] * scale)
    found = quantized.dequantize(linear(weight))
    assert found.shape == weight.shape
    assert torch.allclose(found, torch.cat(expected).reshape(shape), atol=1e-6)
    assert (found[:, ::3] == 0).all()


def test_a_packed_linear_that_is_given_no_floats_is_an_error():
    """The model of T5 gives a linear its input in the dtype of its weight."""
    module = linear(torch.randn(8, 64))
    quantized.compute_dequantized(module)
    given = torch.randn(2, 64)
    assert torch.allclose(module(given), given @ quantized.dequantize(module).T, atol=1e-5)
    with pytest.raises(TypeError, match="uint8, not floats"):
        module(given.to(module.weight.dtype))
