"""Packed tensors: every bit comes back, bytes are as computed by hand, no lie is read."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from prunegrid.common.errors import PrunegridError
from prunegrid.models.packed import byte_groups, container, tensor_forms
from prunegrid.models.packed.packed_matrix import PackedMatrix
from prunegrid.models.packed.tensor_forms import Form, patterns_of

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
PATTERNS = ((2, 4), (4, 8), (1, 4), (3, 5), (7, 16), (1, 2))


def drawn(shape, density, dtype, seed, negative_zeros=False):
    """Return a random tensor; NaN, infinity and subnormals are among its values."""
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    flat = tensor.view(-1)
    odd = [math.nan, math.inf, torch.finfo(dtype).smallest_normal / 4]
    for place, value in zip(range(0, flat.numel(), 7), odd, strict=False):
        flat[place] = value
    mask = torch.rand(shape, generator=generator) < density
    if negative_zeros:
        finite = torch.where(torch.isfinite(tensor), tensor, torch.ones((), dtype=dtype))
        return finite * mask.to(dtype)
    return torch.where(mask, tensor, torch.zeros((), dtype=dtype))


def to_pattern(tensor, keep, group, seed):
    """Zero all but `keep` drawn places of every `group` columns."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(tensor.shape[0], tensor.shape[1] // group, group, generator=generator)
    kept = torch.zeros_like(order, dtype=torch.bool)
    kept.scatter_(-1, order.topk(keep, dim=-1).indices, True)
    return torch.where(kept.reshape(tensor.shape), tensor, torch.zeros((), dtype=tensor.dtype))


def size_of(parts):
    return sum(part.numel() * part.element_size() for part in parts.values())


def round_trip(tensor, form):
    parts = tensor_forms.encode(tensor, form)
    entry = form.entry(list(tensor.shape))
    read, shape = container.read_entry("x", entry)
    assert read == form
    assert container.same_bits(tensor_forms.decode(form, shape, parts), tensor)
    return parts


@settings(max_examples=60)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    density=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
    signed=st.booleans(),
)
def test_a_mask_round_trips(shape, density, dtype, seed, signed):
    tensor = drawn(shape, density, dtype, seed, signed)
    parts = round_trip(tensor, Form("mask"))
    counted = tensor_forms.count(tensor)
    n, kept = tensor.numel(), int(torch.count_nonzero(tensor))
    assert counted.nonzero == kept == parts["values"].numel()
    assert parts["mask"].numel() == -(-n // 8)
    assert size_of(parts) == counted.bytes_of(Form("mask"))
    assert ("signs" in parts) == bool((torch.signbit(tensor) & (tensor == 0)).any())


@settings(max_examples=60)
@given(
    rows=st.integers(1, 6),
    width=st.integers(1, 4),
    pattern=st.sampled_from(PATTERNS),
    density=st.sampled_from([0.0, 0.3, 1.0]),
    dtype=st.sampled_from(DTYPES),
    transposed=st.booleans(),
    signed=st.booleans(),
    experts=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_groups_round_trip(rows, width, pattern, density, dtype, transposed, signed, experts, seed):
    """Of one matrix, or of several in one tensor."""
    keep, group = pattern
    rows = rows * (experts or 1)
    tensor = to_pattern(drawn((rows, width * group), density, dtype, seed, signed), *pattern, seed)
    if signed:
        tensor = torch.where(tensor == 0, -torch.zeros((), dtype=dtype), tensor)
    tensor = tensor.reshape(experts, -1, width * group) if experts else tensor
    tensor = tensor.mT if transposed else tensor
    form = Form("nm", keep, group, 0 if transposed else 1)
    parts = round_trip(tensor, form)
    number = rows * width
    bits = math.ceil(math.log2(math.comb(group, keep)))
    assert parts["values"].numel() == number * keep
    assert parts["codes"].shape == (bits, -(-number // 8))
    counted = tensor_forms.count(tensor, (pattern,))
    assert counted.groups and counted.groups[0][:2] == pattern
    if "signs" in parts or not counted.signed_zeros:
        assert size_of(parts) == counted.bytes_of(form)


@pytest.mark.parametrize("pattern", [None, (2, 4)])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shape", ["rows", "columns", "experts"])
def test_int8_values_take_a_byte_each_and_a_scale_a_row(shape, signed, pattern):
    """Of rows [d_out, d_in], of a Conv1D [d_in, d_out], of experts one below the other."""
    weight = torch.randn(24, 64, generator=torch.Generator().manual_seed(1))
    weight = to_pattern(weight, *(pattern or (4, 8)), seed=3)
    tensor = PackedMatrix.of(weight, "int8").dense()
    tensor[5] = 0
    if signed:
        tensor = torch.where(tensor == 0, -torch.zeros(()), tensor)
    tensor = {"rows": tensor, "columns": tensor.t(), "experts": tensor.reshape(3, 8, 64)}[shape]
    counted = tensor_forms.count(tensor, ((2, 4),))
    form = tensor_forms.choose(counted)
    axis = 0 if shape == "columns" else 1
    pattern = None if signed else pattern  # a short group may keep a negative zero
    assert form == Form("nm" if pattern else "mask", *(pattern or (0, 0)), axis, int8=True)
    parts = round_trip(tensor, form)
    assert size_of(parts) == counted.bytes_of(form)
    assert parts["values"].dtype == torch.int8 and parts["scales"].shape == (24,)
    assert 8 * size_of(parts) >= counted.bound_bits()
    # One value beside the steps of its row, and all are float32.
    tensor[..., -1, -1] = 1e-5
    assert not tensor_forms.choose(tensor_forms.count(tensor, ((2, 4),))).int8


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 24), st.integers(1, 12).map(lambda n: 8 * n)),
    density=st.floats(0, 1),
    dtype=st.sampled_from(DTYPES),
    pattern=st.sampled_from([None, (2, 4), (4, 8), (1, 4)]),
    signed=st.booleans(),
)
def test_the_chosen_form_is_small_and_above_the_bound(shape, density, dtype, pattern, signed):
    tensor = drawn(shape, density, dtype, 5, signed)
    patterns = ((2, 4), (4, 8), (1, 4))
    if pattern:
        tensor = to_pattern(tensor, *pattern, 6)
    counted = tensor_forms.count(tensor, patterns)
    form = tensor_forms.choose(counted)
    parts = round_trip(tensor, form) if form.kind != "dense" else {"": tensor}
    dense = tensor.numel() * tensor.element_size()
    assert counted.bound_bits() / 8 <= size_of(parts) <= dense
    assert counted.bound_bits() <= 8 * dense


def test_known_sizes():
    """Of 64 x 128 float32: 2:4 takes 3 bits a group of 4 and half of the values, and so on."""
    tensor = drawn((64, 128), 1.0, torch.float32, 1)
    n = 64 * 128
    two = tensor_forms.count(to_pattern(tensor, 2, 4, 0), ((2, 4),))
    assert two.bytes_of(Form("nm", 2, 4)) == 3 * n // 4 // 8 + n // 2 * 4
    assert two.bytes_of(Form("mask")) == n // 8 + n // 2 * 4
    assert tensor_forms.choose(two) == Form("nm", 2, 4, 1)
    four = tensor_forms.count(to_pattern(tensor, 4, 8, 0), ((2, 4), (4, 8)))
    assert four.groups == ((4, 8, 1),)
    assert four.bytes_of(Form("nm", 4, 8)) == 7 * n // 8 // 8 + n // 2 * 4
    assert two.bound_bits() == n // 4 * math.log2(6) + 32 * n // 2
    mixed = tensor_forms.count(torch.cat([tensor, torch.zeros(64, 128)]))
    assert mixed.bound_bits() == 2 * n + 32 * n
    assert tensor_forms.choose(tensor_forms.count(tensor)) == Form()
    sparse = drawn((64, 128), 0.25, torch.bfloat16, 2)
    share = int((sparse == 0).sum()) / n
    entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    assert tensor_forms.count(sparse).bound_bits() == pytest.approx(
        entropy * n + 16 * int((sparse != 0).sum())
    )


def test_the_patterns_that_a_checkpoint_may_keep_to():
    assert patterns_of("3:5") == ((3, 5),)
    assert patterns_of("unstructured") == patterns_of(None) == tensor_forms.USUAL_PATTERNS


@pytest.mark.parametrize("keep,group", [(2, 4), (4, 8), (3, 7), (1, 16)])
def test_ranks_count_the_choices_in_order(keep, group):
    """Against all subsets, in the order of the words that they are."""
    subsets = [sum(1 << p for p in s) for s in itertools.combinations(range(group), keep)]
    assert byte_groups.choices(keep, group).tolist() == sorted(subsets)
    assert (
        2 ** (byte_groups.code_bits(keep, group) - 1)
        < len(subsets)
        <= 2 ** byte_groups.code_bits(keep, group)
    )


def test_more_than_the_pattern_keeps_is_no_form():
    tensor = torch.ones(2, 8)
    assert tensor_forms.count(tensor, ((2, 4),)).groups == ()
    with pytest.raises(ValueError, match="more than 2 of 4"):
        tensor_forms.encode(tensor, Form("nm", 2, 4))


def test_small_or_odd_tensors_stay_dense():
    for tensor in (torch.zeros(()), torch.zeros(0), torch.zeros(8), torch.zeros(9999).long()):
        assert tensor_forms.choose(tensor_forms.count(tensor, ((2, 4),))) == Form()


TENSOR = to_pattern(drawn((8, 32), 1.0, torch.float32, 3), 2, 4, 3)


def lie(kind, change):
    form = Form("mask") if kind == "mask" else Form("nm", 2, 4)
    parts = tensor_forms.encode(TENSOR, form)
    change(parts)
    return tensor_forms.decode(form, [8, 32], parts)


def set_plane(parts):
    parts["codes"][:] = 255


def drop_value(parts):
    parts["values"] = parts["values"][:-1]


@pytest.mark.parametrize(
    "kind,change,match",
    [
        ("mask", drop_value, "127 values; expected 128"),
        ("nm", drop_value, "127 values; expected 128"),
        ("nm", set_plane, "index 7; expected less than 6"),
        (
            "nm",
            lambda p: p.update(codes=p["codes"][:2]),
            r"uint8 \[2, 8\]; expected uint8 \[3, 8\]",
        ),
        ("mask", lambda p: p.update(mask=p["mask"][:-1]), r"uint8 \[31\]; expected uint8 \[32\]"),
        ("mask", lambda p: p.update(mask=p["mask"].float()), "are float32"),
        ("mask", lambda p: p.update(values=p["values"].long()), "are int64"),
        ("mask", lambda p: p.update(signs=torch.zeros(3, dtype=torch.uint8)), "signs are uint8"),
    ],
)
def test_parts_that_do_not_fit_are_refused(kind, change, match):
    with pytest.raises(PrunegridError, match=match):
        lie(kind, change)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda p: p.update(values=p["values"].float()), "one row of int8"),
        (lambda p: p.update(scales=p["scales"][:-1]), r"expected float32 \[8\]"),
        (lambda p: p.update(scales=p["scales"].double()), r"expected float32 \[8\]"),
        (drop_value, "values; expected"),
    ],
)
def test_int8_parts_that_do_not_fit_are_refused(change, match):
    tensor = PackedMatrix.of(to_pattern(torch.ones(8, 32), 2, 4, 0), "int8").dense()
    form = Form("mask", axis=1, int8=True)
    parts = tensor_forms.encode(tensor, form)
    change(parts)
    with pytest.raises(PrunegridError, match=match):
        tensor_forms.decode(form, [8, 32], parts)


@pytest.mark.parametrize(
    "change", [{"values": "int4"}, {"values": []}, {"axis": 2}, {"axis": True}, {"shape": [256]}]
)
def test_entries_of_int8_values_that_describe_no_tensor_are_refused(change):
    entry = Form("mask", axis=1, int8=True).entry([8, 32])
    assert container.read_entry("x", entry)[0].int8
    with pytest.raises(ValueError, match="x: "):
        container.read_entry("x", entry | change)


def test_a_file_of_the_first_version_is_read(tmp_path):
    tensors = {"x": to_pattern(torch.ones(64, 64), 2, 4, 0) * torch.rand(64, 64)}
    container.write(tmp_path / "new", tensors, ((2, 4),))
    with safe_open(tmp_path / "new", "pt") as file:
        parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()[container.METADATA])
    assert about["version"] == 2 and about["tensors"]["x"]["form"] == "nm"
    old = {container.METADATA: json.dumps(about | {"version": 1})}
    container.save(parts, tmp_path / "old", old)
    container.require_same(container.read(tmp_path / "old"), tensors, "old")


def test_bits_beyond_the_last_are_refused():
    parts = tensor_forms.encode(torch.ones(3), Form("mask"))
    parts["mask"] |= 1
    with pytest.raises(PrunegridError, match="beyond the 3th"):
        tensor_forms.decode(Form("mask"), [3], parts)


def test_numpy_and_torch_agree_on_the_sign_of_a_zero():
    tensor = torch.tensor([0.0, -0.0, 1.0, -0.0])
    parts = tensor_forms.encode(tensor, Form("mask"))
    assert parts["values"].tolist() == [1.0]
    assert np.unpackbits(parts["signs"].numpy())[:3].tolist() == [0, 1, 1]
