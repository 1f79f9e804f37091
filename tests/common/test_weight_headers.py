"""The parameters of a model on disk, by headers and sizes; no folder is an error."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from prunegrid.common.weight_headers import parameters_of

ONE = {"a.weight": numpy.zeros((4, 8), numpy.float32), "a.bias": numpy.zeros(3, numpy.float16)}
TWO = {"b.weight": numpy.zeros((5, 5), numpy.float32)}


def whole(folder: Path) -> Path:
    """Return a folder of one safetensors file: 35 parameters in two dtypes."""
    folder.mkdir()
    save_file(ONE, folder / "model.safetensors", {"format": "pt"})
    return folder


def in_parts(folder: Path) -> Path:
    """Return a folder of two files and their index: 60 parameters."""
    folder.mkdir()
    save_file(ONE, folder / "one.safetensors")
    save_file(TWO, folder / "two.safetensors")
    places = dict.fromkeys(ONE, "one.safetensors") | dict.fromkeys(TWO, "two.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def pickled(folder: Path, config: str) -> Path:
    """Return a folder with 1,000 bytes of a format that has no header."""
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(bytes(1000))
    (folder / "config.json").write_text(config)
    return folder


def test_shapes_are_read_in_safetensors(tmp_path):
    assert parameters_of(whole(tmp_path / "one")) == 35
    assert parameters_of(in_parts(tmp_path / "two")) == 60


def test_of_gguf_the_size_tells(tmp_path):
    """SmolLM2-135M in Q4_1 is 98,362,432 bytes."""
    path = tmp_path / "model.gguf"
    path.touch()
    os.truncate(path, 98_362_432)
    assert parameters_of(path) == pytest.approx(134_515_008, rel=0.15)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ('{"torch_dtype": "float32"}', 250),
        ('{"torch_dtype": "bfloat16"}', 500),
        ('{"dtype": "float16"}', 500),
        ("{}", 250),
        ("[", 250),
    ],
)
def test_of_other_files_the_size_tells(tmp_path, config, count):
    assert parameters_of(pickled(tmp_path / "bin", config)) == count


def test_the_weights_are_not_read(tmp_path):
    """The file is empty on the disk but for its header."""
    shape = [20_000, 20_000]
    size = 4 * math.prod(shape)
    header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}})
    path = tmp_path / "large" / "model.safetensors"
    path.parent.mkdir()
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    os.truncate(path, 8 + len(header) + size)
    assert parameters_of(path.parent) == math.prod(shape)


def test_a_folder_of_which_nothing_is_known_has_no_number(tmp_path):
    assert parameters_of(tmp_path / "none") is None
    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    assert parameters_of(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 64,
        (2).to_bytes(8, "little") + b"[]",
        (2**62).to_bytes(8, "little") + b"{}",
    ],
)
def test_a_damaged_file_is_no_error(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    # Its size is all that is left to go by; four bytes a parameter.
    assert parameters_of(tmp_path) == (len(content) // 4 or None)
