"""Checkpoints: the record is what is in memory, and memory is what is in the files."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from prunegrid.artifacts import artifact_folder
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.models import attestation, blocks, checkpoint
from tests.helpers import tiny

pytestmark = pytest.mark.model

KINDS = ("opt", "llama", "gpt2")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_and_files_have_one_digest(tmp_path, kind, dtype):
    folder = tiny.artifact(tmp_path / "m", kind, "2:4", dtype=dtype)
    loaded = checkpoint.load(folder)
    assert loaded.record["sha256"] == checkpoint.file_weights_sha256(folder)
    assert loaded.record["precision"] == str(dtype).removeprefix("torch.")
    assert set(loaded.tensors) == set(load_file(folder / "model.safetensors"))


@pytest.mark.parametrize("kind", KINDS)
def test_record_is_counted(tmp_path, kind):
    folder = tiny.artifact(tmp_path / "m", kind, "2:4")
    record = checkpoint.load(folder).record
    model = tiny.model(kind)
    total = sum(p.numel() for p in model.parameters())
    linears = sum(m.weight.numel() for m in blocks.prunable(model).values())
    assert record["parameters"] == total
    assert record["prunable_parameters"] == linears
    assert record["prunable_zeros"] == linears // 2
    assert record["sparsity_prunable"] == record["sparsity_effective"] == 0.5
    assert record["nm_valid"] is True
    zeros = sum(int((t == 0).sum()) for t in load_file(folder / "model.safetensors").values())
    assert record["nonzero_parameters"] == total - zeros
    assert record["file_bytes"] == (folder / "model.safetensors").stat().st_size


def test_dense_record_has_no_nm(tmp_path):
    record = checkpoint.load(tiny.artifact(tmp_path / "m", "llama")).record
    assert record["pattern"] is None and record["nm_valid"] is None
    assert record["sparsity_prunable"] == 0


def test_broken_nm_is_seen(tmp_path):
    model = tiny.model("llama")
    tiny.prune_(model, "2:4")
    with torch.no_grad():
        next(iter(blocks.prunable(model).values())).weight[0, :4] = 1.0
    (tmp_path / "m").mkdir()
    assert checkpoint.write_plain(model, None, tmp_path / "m", "2:4").record["nm_valid"] is False


def test_swapped_weights_fail(tmp_path):
    pruned = tiny.artifact(tmp_path / "pruned", "opt", "2:4")
    dense = tiny.artifact(tmp_path / "dense", "opt")
    shutil.copy(dense / "model.safetensors", pruned / "model.safetensors")
    with pytest.raises(AttestationError, match="sha256"):
        checkpoint.load(pruned)
    assert checkpoint.load(pruned, attest=False).record["nm_valid"] is False


def test_truncated_file(tmp_path):
    folder = tiny.artifact(tmp_path / "m", "llama")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PrunegridError, match="safetensors.*delete it"):
        checkpoint.load(folder)


def test_missing_tensor(tmp_path):
    folder = tiny.artifact(tmp_path / "m", "llama")
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(PrunegridError, match="missing keys.*up_proj"):
        checkpoint.load(folder)


def test_nan_weights(tmp_path):
    folder = tiny.artifact(tmp_path / "m", "llama")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(PrunegridError, match="model.norm.weight holds NaN"):
        checkpoint.load(folder)


def test_no_weights(tmp_path):
    with pytest.raises(PrunegridError, match="no safetensors file"):
        checkpoint.load(tmp_path, attest=False)


def test_full_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(artifact_folder.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(PrunegridError, match="are free"):
        checkpoint.write_plain(tiny.model("llama"), None, tmp_path, None)
    assert list(tmp_path.iterdir()) == []


def test_same_weights_same_bytes(tmp_path):
    one = tiny.artifact(tmp_path / "a" / "m", "llama")
    two = tiny.artifact(tmp_path / "b" / "other", "llama")
    assert artifact_folder.list_files(one) == artifact_folder.list_files(two)
    again = checkpoint.load(one)
    (tmp_path / "c").mkdir()
    checkpoint.write_plain(again.model, again.tokenizer, tmp_path / "c", None)
    assert artifact_folder.list_files(tmp_path / "c") == artifact_folder.list_files(one)


def test_digest_sees_one_bit(tmp_path):
    model = tiny.model("llama")
    before = attestation.weights_sha256(attestation.model_tensors(model))
    with torch.no_grad():
        model.model.norm.weight[0] = -model.model.norm.weight[0]
    assert attestation.weights_sha256(attestation.model_tensors(model)) != before


TINY = dict(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=64, pad_token_id=0,
)  # fmt: skip
# Models whose tensors have other names in the files of their first releases.
RENAMED = {
    "gpt_neox": (transformers.AutoModelForCausalLM, TINY),
    "nomic_bert": (transformers.AutoModelForMaskedLM, TINY),
    "mixtral": (
        transformers.AutoModelForCausalLM,
        TINY | {"num_key_value_heads": 2, "num_local_experts": 4},
    ),
}


@pytest.mark.parametrize("kind", RENAMED)
def test_tensors_have_one_name_in_memory_and_in_files(tmp_path, kind):
    auto, config = RENAMED[kind]
    model = auto.from_config(transformers.AutoConfig.for_model(kind, **config)).eval()
    checkpoint.save_model(model, tmp_path)
    names = set()
    for path in checkpoint.weight_files(tmp_path):
        with safe_open(path, framework="pt") as handle:
            names |= set(handle.keys())
    assert names <= model.state_dict().keys()
    assert checkpoint.file_weights_sha256(tmp_path) == attestation.weights_sha256(
        attestation.model_tensors(model)
    )
    again = auto.from_pretrained(tmp_path, dtype="auto")
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
