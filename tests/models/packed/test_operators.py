"""Products with packed weights, by every kernel that this CPU has, against dense ones."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.common.errors import PrunegridError
from prunegrid.models.packed import operators
from prunegrid.models.packed.container import same_bits
from prunegrid.models.packed.packed_matrix import VALUES, PackedMatrix
from tests.helpers.fuzzing import fuzz
from tests.helpers.packed_kernels import each_kernel as each_kernel  # fixtures
from tests.helpers.packed_kernels import kernel_cache as kernel_cache
from tests.helpers.packed_kernels import kernels as kernels
from tests.helpers.packed_kernels import sparse
from tests.helpers.rounding import close

SHAPES = [(1, 1), (5, 7), (33, 64), (40, 100), (17, 576), (300, 129)]
ZEROS = [0.0, 0.5, 0.7, 0.9, 1.0]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def inputs(tokens: int, columns: int) -> torch.Tensor:
    return torch.randn(tokens, columns, generator=torch.Generator().manual_seed(tokens))


def is_product(found: torch.Tensor, matrix: PackedMatrix, x: torch.Tensor, bias=None) -> bool:
    """Return whether sums are those of float64 but for rounding."""
    weight, x = matrix.dense().double(), x.double()
    expected, magnitude = x @ weight.T, x.abs() @ weight.T.abs()
    if bias is not None:
        expected, magnitude = expected + bias.double(), magnitude + bias.abs().double()
    # One rounding each for the scale of int8, of its dense weight, and for the bias.
    return close(found, expected.float(), matrix.columns + 3, magnitude)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_are_those_of_dense_weights(each_kernel, shape):
    bias = torch.linspace(-1, 1, shape[0])
    for values, zeros in itertools.product(VALUES, ZEROS):
        matrix = PackedMatrix.of(sparse(*shape, zeros), values)
        for tokens in (*range(1, 10), 20):
            x = inputs(tokens, shape[1])
            assert is_product(matrix.times(x, bias), matrix, x, bias), (values, zeros, tokens)
            assert is_product(matrix.times(x), matrix, x), (values, zeros, tokens)


def test_two_threads_share_rows_and_tiles(each_kernel, two_threads):
    for values in VALUES:
        matrix = PackedMatrix.of(sparse(6000, 200, 0.6), values)  # two tiles
        for tokens in (1, 3, 9):
            x = inputs(tokens, 200)
            assert is_product(matrix.times(x), matrix, x)


def test_a_kernel_expands_to_the_dense_weight(each_kernel, two_threads):
    for shape, values in itertools.product((*SHAPES, (500, 200)), VALUES):
        m = PackedMatrix.of(sparse(*shape, 0.6), values)
        dense = torch.ops.prunegrid.packed_expand(m.mask, m.values, m.starts, m.scale, m.columns)
        assert torch.equal(dense, m.dense())


@pytest.mark.parametrize("values", VALUES)
def test_a_sum_depends_on_neither_threads_nor_the_tokens_beside_it(
    each_kernel, two_threads, values
):
    matrix, x = PackedMatrix.of(sparse(2000, 200, 0.5), values), inputs(8, 200)
    shared = [matrix.times(x[:tokens]) for tokens in range(1, 9)]
    torch.set_num_threads(1)
    alone = torch.cat([matrix.times(row[None]) for row in x])
    assert all(same_bits(found, alone[: len(found)]) for found in shared)
    assert same_bits(matrix.slice(1, 1999).times(x), alone[:, 1:1999].contiguous())


def test_the_order_of_a_sum_is_the_one_that_is_written_down(kernels):
    operators.use("plain")
    weight, x = sparse(3, 150, 0.5), inputs(1, 150)
    sums = torch.zeros(3, 4, 8)
    padded, row = torch.zeros(3, 192), torch.zeros(192)
    padded[:, :150], row[:150] = weight, x[0]
    for column in range(0, 192, 8):
        part = padded[:, column : column + 8] * row[column : column + 8]
        sums[:, column // 8 % 4] += part
    left = (sums[:, 0] + sums[:, 1]) + (sums[:, 2] + sums[:, 3])
    while left.shape[1] > 1:
        half = left.shape[1] // 2
        left = left[:, :half] + left[:, half:]
    assert same_bits(PackedMatrix.of(weight).times(x), left.T.contiguous())


@fuzz(60)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6),
    st.integers(1, 64),
    st.integers(1, 10),
    st.sampled_from(sorted(VALUES)),
)
def test_any_mask_is_multiplied_as_its_dense_weight(kernels, words, columns, tokens, values):
    kept = torch.tensor([[word >> c & 1 for c in range(columns)] for word in words])
    draw = torch.Generator().manual_seed(words[0] % 2**32)
    matrix = PackedMatrix.of(kept * torch.randn(kept.shape, generator=draw), values)
    x = inputs(tokens, columns)
    for name in operators.usable():
        operators.use(name)
        assert is_product(matrix.times(x), matrix, x)


def test_infinity_and_nan_give_what_a_dense_product_gives(each_kernel):
    weight = sparse(9, 100, 0.5)
    weight[0, 5], weight[1, 6], weight[2], weight[3, 99] = torch.inf, torch.nan, 0, -torch.inf
    clean, odd = inputs(1, 100), inputs(1, 100)
    odd[0, 7], odd[0, 50] = torch.inf, torch.nan
    for values in ("float32", "bfloat16"):
        matrix = PackedMatrix.of(weight, values)
        for x in (clean, odd, clean.repeat(9, 1)):
            expected = torch.nn.functional.linear(x, matrix.dense())
            found = matrix.times(x)
            assert torch.equal(found.isnan(), expected.isnan())
            assert torch.equal(found.isinf(), expected.isinf())
            assert torch.equal(found[found.isinf()], expected[expected.isinf()])
        # A dropped weight is a zero: times infinity it is NaN, in a row without any value too.
        assert matrix.times(odd)[0, 2].isnan() and matrix.times(clean)[0, 2] == 0


def test_inputs_keep_their_shape_and_dtype(kernels):
    matrix = PackedMatrix.of(sparse(5, 70, 0.5))
    x = inputs(6, 70).reshape(2, 3, 70)
    assert matrix.times(x).shape == (2, 3, 5)
    half = matrix.times(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert same_bits(half, matrix.times(x.bfloat16().float()).bfloat16())
    assert same_bits(matrix.times(x.transpose(0, 1)), matrix.times(x).transpose(0, 1).contiguous())
    assert matrix.times(x[:0]).shape == (0, 3, 5)
    assert matrix.times(inputs(1, 70)[0]).shape == (5,)


def test_shapes_and_dtypes_are_known_without_a_computation(kernels):
    m = PackedMatrix.of(sparse(5, 70, 0.5), "int8")
    x = inputs(3, 70)
    bias = torch.ones(5)
    parts = (m.mask, m.values, m.starts, m.scale)
    tests = ("test_schema", "test_faketensor")
    linear, expand = torch.ops.prunegrid.packed_linear, torch.ops.prunegrid.packed_expand
    for args in ((x, *parts, bias), (x.bfloat16(), *parts, None)):
        torch.library.opcheck(linear.default, args, test_utils=tests)
    torch.library.opcheck(expand.default, (*parts, 70), test_utils=tests)


def test_operators_refuse_parts_of_other_sizes(kernels):
    m = PackedMatrix.of(sparse(5, 70, 0.5))
    parts = {"mask": m.mask, "values": m.values, "starts": m.starts, "scale": None, "bias": None}
    x = inputs(2, 70)
    for wrong in (
        {"mask": m.mask[:4]},
        {"mask": m.mask.int()},
        {"values": m.values[:-16]},
        {"values": m.values.double()},
        {"starts": m.starts[:0]},
        {"scale": torch.ones(4)},
        {"bias": torch.ones(5).double()},
    ):
        with pytest.raises(RuntimeError, match="expected|values are"):
            torch.ops.prunegrid.packed_linear(x, **(parts | wrong))
    with pytest.raises(RuntimeError, match="mask: expected"):
        torch.ops.prunegrid.packed_linear(inputs(2, 200), **parts)
    with pytest.raises(RuntimeError, match="expected floats"):
        torch.ops.prunegrid.packed_linear(x.long(), **parts)


def test_the_variable_names_the_kernel(kernels, monkeypatch):
    assert operators.load() == operators.usable()[0]
    monkeypatch.setenv(operators.VARIABLE, "plain")
    assert operators.load() == "plain" == torch.ops.prunegrid.kernel()
    monkeypatch.setenv(operators.VARIABLE, "avx")
    with pytest.raises(PrunegridError, match=f"{operators.VARIABLE}.*did you mean 'avx2'"):
        operators.load()
    missing = next((n for n in operators.KERNELS if n not in operators.usable()), None)
    if missing:
        monkeypatch.setenv(operators.VARIABLE, missing)
        with pytest.raises(PrunegridError, match=f"no {missing}; expected one of .*plain"):
            operators.load()


def test_without_a_compiler_a_line_says_why(kernels, monkeypatch, caplog):
    def fails():
        raise PrunegridError("no C++ compiler was found")

    with monkeypatch.context() as patch:
        patch.setattr(operators, "usable", fails)
        assert operators.load() is None
    assert "expanded into dense linears: no C++ compiler was found" in caplog.text
