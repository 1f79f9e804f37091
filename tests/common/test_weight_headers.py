"""The parameters of a model on disk, by headers and sizes; no folder is an error."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
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


def in_gguf(path: Path) -> Path:
    """Return a GGUF file of 60 parameters, with metadata of each form before them."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("a.text", "words")
    writer.add_bool("a.flag", True)
    writer.add_float64("a.number", 0.5)
    writer.add_array("a.words", ["one", "", "three"])
    writer.add_array("a.numbers", [1, 2, 3])
    for name, tensor in (ONE | TWO).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_shapes_are_read_in_safetensors_and_gguf(tmp_path):
    assert parameters_of(whole(tmp_path / "one")) == 35
    assert parameters_of(in_parts(tmp_path / "two")) == 60
    assert parameters_of(in_gguf(tmp_path / "model.gguf")) == 60


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
    """A file whose header promises a model that is not there: only the header is asked."""
    shape = [100_000, 100_000]
    header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * 10**10]}})
    folder = tmp_path / "large"
    folder.mkdir()
    length = len(header).to_bytes(8, "little")
    (folder / "model.safetensors").write_bytes(length + header.encode())
    assert parameters_of(folder) == 10**10


def test_a_folder_of_which_nothing_is_known_has_no_number(tmp_path):
    assert parameters_of(tmp_path / "none") is None
    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    assert parameters_of(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        b"\xff" * 64,
        (2).to_bytes(8, "little") + b"[]",
        (2**62).to_bytes(8, "little") + b"{}",
        b"GGUF" + b"\xff" * 100,
        b"GGUF\x03\0\0\0" + (2**60).to_bytes(8, "little") + bytes(8),
        b"GGUF\x03\0\0\0" + (1).to_bytes(8, "little") + bytes(16) + b"\xff" * 4,
    ],
)
def test_a_damaged_file_is_no_error(tmp_path, content):
    (tmp_path / "x.gguf").write_bytes(content)
    assert parameters_of(tmp_path / "x.gguf") is None
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(content)
    # Its size is all that is left to go by; four bytes a parameter.
    assert parameters_of(folder) == (len(content) // 4 or None)


def test_a_part_that_is_missing_is_no_error(tmp_path):
    folder = in_parts(tmp_path / "two")
    (folder / "two.safetensors").unlink()
    assert parameters_of(folder) is None
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../x"}}')
    parameters_of.cache_clear()
    assert parameters_of(folder) is None
