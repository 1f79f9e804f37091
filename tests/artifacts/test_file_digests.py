"""Digests of local sources: of the files that are read, whatever lies beside them."""

import hashlib
import json
import logging
import os

import pytest

from prunegrid.artifacts import file_digests
from prunegrid.artifacts.file_digests import source_digest
from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model_folder(place, shards=("a.safetensors", "b.safetensors")):
    """Return a folder that has the names of a model's files."""
    place.mkdir()
    (place / "config.json").write_text("{}")
    (place / "tokenizer.json").write_text("{}")
    index = {"weight_map": {f"w{n}": shard for n, shard in enumerate(shards)}}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))
    for shard in shards:
        (place / shard).write_text(shard)
    return place


BESIDE = (
    "NOTES.txt", ".DS_Store", "original/consolidated.00.pth", ".git/HEAD", "pytorch_model.bin",
    "c.safetensors", "README.md", ".cache/huggingface/download/x.metadata", "onnx/model.onnx",
)  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_a_file_beside_a_models_own_counts_nothing(folder, name):
    place = model_folder(folder / "m")
    before = source_digest({"path": place}, is_model=True)
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).write_text("x")
    assert source_digest({"path": place}, is_model=True) == before
    assert str(place / name) not in file_digests.CACHE.read_text()


@pytest.mark.parametrize(
    "name", ["a.safetensors", "b.safetensors", "config.json", "tokenizer.json", "vocab.txt"]
)
def test_each_file_that_is_read_counts(folder, name):
    place = model_folder(folder / "m")
    before = source_digest({"path": place}, is_model=True)
    (place / name).write_text("changed")
    assert source_digest({"path": place}, is_model=True) != before


def test_a_snapshot_of_links_is_read_through_them(folder):
    place = model_folder(folder / "m")
    before = source_digest({"path": place}, is_model=True)
    blob = folder / "blob"
    os.replace(place / "a.safetensors", blob)
    (place / "a.safetensors").symlink_to(blob)
    assert source_digest({"path": place}, is_model=True) == before
    blob.write_text("other")
    assert source_digest({"path": place}, is_model=True) != before


def test_of_data_the_named_files_count(folder):
    for name in ("train.jsonl", "test.jsonl", "other.jsonl"):
        (folder / name).write_text(name)
    source = {"path": folder, "files": {"train": "train.jsonl", "test": "test.jsonl"}}
    before = source_digest(source, is_model=False)
    for name in ("other.jsonl", "results/artifacts/x", "new.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("grows")
    assert source_digest(source, is_model=False) == before
    (folder / "test.jsonl").write_text("grows")
    assert source_digest(source, is_model=False) != before


def test_a_single_files_name_does_not_count(folder):
    for name in ("a.jsonl", "b.jsonl"):
        (folder / name).write_text("same")
    found = {source_digest({"path": folder / n}, is_model=False) for n in ("a.jsonl", "b.jsonl")}
    assert len(found) == 1


def test_a_file_that_is_missing_is_named(folder):
    with pytest.raises(PrunegridError, match=r"gone\.jsonl does not exist"):
        source_digest({"path": folder, "files": {"test": "gone.jsonl"}}, is_model=False)
    place = model_folder(folder / "m")
    (place / "b.safetensors").unlink()
    with pytest.raises(PrunegridError, match="names b.safetensors, which is missing"):
        source_digest({"path": place}, is_model=True)


def test_a_long_hash_says_how_far_it_is_and_is_made_once(folder, monkeypatch, caplog):
    monkeypatch.setattr(file_digests, "TOLD_EVERY", 1024)
    big = folder / "big.gguf"
    big.write_bytes(bytes(range(256)) * 13)
    with caplog.at_level(logging.WARNING):
        source_digest({"path": big}, is_model=True)
    assert len(caplog.messages) == 4 and all(str(big) in text for text in caplog.messages)
    noted = file_io.read_json(file_digests.CACHE)["files"][str(big)]
    assert noted[3] == hashlib.sha256(big.read_bytes()).hexdigest()
    caplog.clear()
    source_digest({"path": big}, is_model=True)
    assert not caplog.messages
