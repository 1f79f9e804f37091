"""Weights in memory without zeros: every bit comes back, and what is damaged is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.common.errors import PrunegridError
from prunegrid.models.packed.container import same_bits
from prunegrid.models.packed.packed_matrix import (
    VALUES,
    PackedMatrix,
    narrowest,
    packed_bytes,
    stacked,
)
from tests.helpers.fuzzing import fuzz
from tests.helpers.packed_kernels import sparse

SPECIAL = [0.0, -0.0, 1.0, -1.5, float("inf"), float("-inf"), float("nan"), 1e-40]


@fuzz(80)
@given(
    st.integers(1, 5),
    st.sampled_from([1, 7, 63, 64, 65, 130]),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    st.randoms(use_true_random=False),
)
def test_every_bit_comes_back(rows, columns, dtype, draw):
    values = [draw.choice(SPECIAL) for _ in range(rows * columns)]
    weight = torch.tensor(values).reshape(rows, columns).to(dtype)
    matrix = PackedMatrix.of(weight)
    dense = matrix.dense()
    # Of a NaN in 16 bits it is not said which one it is.
    assert torch.equal(dense.isnan(), weight.isnan())
    assert same_bits(dense.where(~dense.isnan(), 0), weight.where(~weight.isnan(), 0))
    count, signed = int((weight != 0).sum()), bool(((weight == 0) & weight.signbit()).any())
    size = sum(part.nbytes for part in matrix.parts())
    assert size == packed_bytes(rows, columns, count, "float32", signed)
    assert matrix.zeros == weight.numel() - count


@fuzz(40)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.sampled_from(sorted(VALUES)))
def test_rows_one_below_the_other_and_apart_again(seed, zeros, values):
    weights = [sparse(rows, 70, zeros, seed + rows) for rows in (1, 3, 2)]
    weights[1] = weights[1].where(weights[1] != 0, -0.0)
    matrices = [PackedMatrix.of(weight, values) for weight in weights]
    whole = stacked(matrices)
    parts = [whole.slice(0, 1), whole.slice(1, 4), whole.slice(4, 6)]
    for part, matrix in zip(parts, matrices, strict=True):
        assert same_bits(part.dense(), matrix.dense())
    assert same_bits(whole.dense(), torch.cat([matrix.dense() for matrix in matrices]))


def test_a_mask_is_as_the_header_of_the_kernels_says():
    weight = torch.zeros(2, 70)
    weight[0, 3], weight[0, 64], weight[1, 69] = 1.0, 2.0, 3.0
    matrix = PackedMatrix.of(weight)
    assert matrix.mask.tolist() == [[1 << 3, 1], [0, 1 << 5]]
    assert matrix.values[:3].tolist() == [1.0, 2.0, 3.0] and matrix.starts.tolist() == [0, 2, 3]
    assert (matrix.rows, matrix.columns, matrix.zeros) == (2, 70, 137)


def test_bfloat16_values_are_rounded_to_nearest():
    weight = sparse(4, 100, 0.5)
    expected = weight.bfloat16().float()
    assert same_bits(PackedMatrix.of(weight, "bfloat16").dense(), expected)


def test_int8_values_are_within_half_a_step_of_each_row():
    weight = sparse(6, 90, 0.5) * torch.tensor([1e-3, 1.0, 50.0, 1.0, 1.0, 0.0])[:, None]
    matrix = PackedMatrix.of(weight, "int8")
    step, scale = weight.abs().amax(1) / 127, matrix.scale
    assert (step[:5] <= scale[:5]).all() and (scale[:5] <= step[:5] * (1 + 2**-16)).all()
    epsilon = torch.finfo(torch.float32).eps
    assert ((matrix.dense() - weight).abs() <= scale[:, None] * (0.5 + 128 * epsilon)).all()
    assert matrix.values.dtype == torch.int8 and matrix.scale.shape == (6,)
    assert matrix.scale[5] == 1 and (matrix.dense()[5] == 0).all()


@fuzz(60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1e-3, 1.0, 3e4, 1e30]))
def test_a_weight_of_int8_values_packs_to_itself(seed, size):
    rounded = PackedMatrix.of(sparse(5, 70, 0.4, seed) * size, "int8").dense()
    again = PackedMatrix.of(rounded, "int8")
    assert same_bits(again.dense(), rounded) and narrowest(rounded) == "int8"
    assert torch.equal(rounded.double(), again.dense().double())


def test_the_narrowest_values_lose_nothing():
    weight = sparse(40, 70, 0.5)
    assert narrowest(weight) == "float32"
    assert narrowest(weight.bfloat16()) == narrowest(weight.bfloat16().float()) == "bfloat16"
    # int8 values that only rounding to 16 bits makes equal are others than the kernels multiply by.
    assert narrowest(PackedMatrix.of(weight, "int8").dense().bfloat16()) == "bfloat16"
    weight[-1, -1] = torch.nan
    assert narrowest(weight) == "float32"
    last = PackedMatrix.of(sparse(40, 70, 0.5), "int8").dense()
    last[-1, -1] = 1e-9
    assert narrowest(last) == "float32"
    assert narrowest(torch.zeros(3, 70)) == "int8"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_int8_holds_no_infinity_or_nan(value):
    with pytest.raises(PrunegridError, match="NaN or infinite.*float32"):
        PackedMatrix.of(torch.tensor([[1.0, value]]), "int8")


def changed(matrix: PackedMatrix, **parts) -> PackedMatrix:
    return dataclasses.replace(matrix, **parts)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: {"mask": m.mask ^ 1}, "values"),
        (lambda m: {"mask": m.mask.roll(1, 0)}, "values"),
        (lambda m: {"mask": m.mask | 1 << 62}, "beyond the last column"),
        (lambda m: {"mask": m.mask[:, :0]}, "0 words"),
        (lambda m: {"mask": m.mask[:2]}, "rows"),
        (lambda m: {"starts": m.starts + 1}, "values"),
        (lambda m: {"starts": m.starts.flip(0)}, "values"),
        (lambda m: {"values": m.values[:-1]}, "values"),
    ],
)
def test_a_mask_that_does_not_fit_its_values_is_refused(change, said):
    weight = sparse(4, 40, 0.5)
    weight[0, 0], weight[1:] = 1.0, weight[1:] * 0
    matrix = PackedMatrix.of(weight)
    with pytest.raises(PrunegridError, match=said):
        changed(matrix, **change(matrix))


@fuzz(60)
@given(st.binary(min_size=16, max_size=16))
def test_any_mask_is_refused_before_a_value_is_used(bits):
    matrix = PackedMatrix.of(sparse(2, 64, 0.5))
    mask = torch.from_numpy(np.frombuffer(bits, "<i8").copy()).reshape(2, 1)
    counts = [int(word).bit_count() for word in mask.numpy().view(np.uint64).ravel()]
    if counts == matrix.starts.diff().tolist():
        return
    with pytest.raises(PrunegridError, match="values"):
        changed(matrix, mask=mask)
