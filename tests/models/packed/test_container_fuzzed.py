"""Packed weights and pickles of any content: the very tensors, or one clear error."""

from __future__ import annotations

import copy
import functools
import io
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from prunegrid.common.errors import PrunegridError
from prunegrid.models import pickled
from prunegrid.models.packed import container
from tests.helpers.fuzzing import fuzz

ODD = st.one_of(
    st.sampled_from(
        [None, True, -1, 0, 1, 3, 2**40, 2**63, 0.5, "", "mask", "nm", "x", [], {}, [[]]]
    ),
    st.lists(st.sampled_from([0, 1, 8, 16, -1, 2**31, 2**62, True, "8"]), max_size=3),
)


def tensors():
    """Return tensors that take each form: dense, mask, nm along each axis, negative zeros."""
    torch.manual_seed(0)
    half = torch.randn(24, 64) * (torch.rand(24, 64) < 0.3)
    pairs = torch.randn(24, 64) * torch.tensor([1.0, 0, 0, 1]).repeat(16)
    found = {"mask": half, "nm": pairs, "turned": pairs.t().contiguous(), "dense": torch.randn(8)}
    return found | {"signed": torch.where(half == 0, -torch.zeros(()), half)}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "packed.safetensors"
    kinds = container.write(path, tensors(), ((2, 4),))
    assert set(kinds.values()) >= {1, 2}
    return path


def read_or_told(path, expected):
    """Read a file; it holds the very tensors, or one clear error says why not."""
    try:
        found = dict(container.read(path))
    except PrunegridError as error:
        assert str(error).strip()
        return
    for name, tensor in found.items():
        assert tensor.numel() < 10**6
        if expected is not None:
            assert container.same_bits(tensor, expected[name])


@fuzz(120)
@given(st.data())
def test_a_header_that_says_anything_is_read_or_told(packed, tmp_path, data):
    parts = load_file(packed)
    about = json.loads(header(packed))
    entries = about["tensors"]
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(entries)))
        kind = data.draw(st.sampled_from(["value", "entry", "drop", "swap", "part", "top"]))
        if kind == "value" and isinstance(entries[name], dict):
            key = data.draw(st.sampled_from(["form", "shape", "keep", "group", "axis", "x"]))
            entries[name][key] = data.draw(ODD)
        elif kind == "entry":
            entries[data.draw(st.sampled_from([name, "new", "a#mask", ""]))] = data.draw(ODD)
        elif kind == "drop" and len(entries) > 1:
            del entries[name]
        elif kind == "swap":
            other = data.draw(st.sampled_from(sorted(entries)))
            entries[name], entries[other] = copy.deepcopy((entries[other], entries[name]))
        elif kind == "part":
            part = data.draw(st.sampled_from(sorted(parts)))
            shape = data.draw(st.sampled_from([(0,), (3,), (3, 192), (1, 1, 1)]))
            dtype = data.draw(
                st.sampled_from([torch.uint8, torch.float32, torch.int64, torch.bool])
            )
            parts[part] = torch.ones(shape, dtype=dtype)
        else:
            about[data.draw(st.sampled_from(["format", "version", "x"]))] = data.draw(ODD)
    path = tmp_path / "changed.safetensors"
    save_file(parts, path, {container.METADATA: json.dumps(about)})
    read_or_told(path, None)


def header(path) -> str:
    """Return the packed file's own description of its tensors."""
    body = path.read_bytes()
    size = int.from_bytes(body[:8], "little")
    return json.loads(body[8 : 8 + size])["__metadata__"][container.METADATA]


@fuzz(80)
@given(st.data())
def test_a_truncated_or_torn_file_is_told(packed, tmp_path, data):
    body = bytearray(packed.read_bytes())
    path = tmp_path / "torn.safetensors"
    place = data.draw(st.integers(0, len(body) - 1))
    kind = data.draw(st.sampled_from(["cut", "grow", "head"]))
    if kind == "cut":
        path.write_bytes(body[:place])
    elif kind == "grow":
        path.write_bytes(body + b"\0" * data.draw(st.integers(1, 99)))
    else:
        body[: data.draw(st.integers(1, 8))] = data.draw(st.binary(min_size=1, max_size=8))
        path.write_bytes(body)
    read_or_told(path, tensors())


@functools.cache
def saved(is_old: bool) -> bytes:
    """Return a `.bin` file. The old format holds an address of memory, so it is made once."""
    file = io.BytesIO()
    torch.save({"w": torch.ones(3, 4)}, file, _use_new_zipfile_serialization=not is_old)
    return file.getvalue()


@fuzz(100)
@given(st.data())
def test_a_damaged_pickle_is_tensors_or_told(tmp_path, data):
    body = bytearray(saved(data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(body)
    try:
        found = pickled.read(path)
    except PrunegridError:
        return
    assert all(isinstance(tensor, torch.Tensor) for tensor in found.values())
