"""Calibrating and pruning a tiny model through the files of the stages."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.data.sources.tiny import byte_tokenizer
from prunegrid.models import checkpoint
from prunegrid.stages import prune


@dataclass
class Job:
    """What a stage may ask of its surroundings."""

    scratch: object
    device: str = "cpu"
    compute_dtype: str = "float32"
    where: str = "test"
    memory: dict = field(
        default_factory=lambda: {"model": "whole", "activations": "device", "chunk": 8}
    )

    def seed(self, purpose):
        return len(purpose)


def write_artifact(folder, fill):
    """Make an artifact: its files by `fill(out)`, which returns the record, and its manifest."""
    with artifact_folder.writing(folder) as out:
        record = fill(out)
        files = artifact_folder.list_files(out)
        manifest = {"key": "k", "files": files, "record": record}
        manifest["content"] = artifact_folder.content_digest(files)
        file_io.write_json(out / artifact_folder.MANIFEST, manifest)
    return folder


def tiny_model(dtype=torch.float32, **changes):
    config = {
        "vocab_size": 260,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(
            AutoConfig.for_model("llama", **{**config, **changes}), dtype=dtype
        )


def write_model(folder, model):
    tokenizer = byte_tokenizer(max_length=128, add_bos=False, encoder=False)
    return write_artifact(
        folder,
        lambda out: {"weights": checkpoint.write_plain(model, tokenizer, out, pattern=None).record},
    )


@pytest.fixture(scope="module")
def parents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parents")
    texts = [f"document {i} says " + "something else and " * (i % 4) for i in range(12)]

    def fill(out):
        ids = [str(i) for i in range(len(texts))]
        pq.write_table(pa.table({"id": ids, "text": texts}), out / "train.parquet")
        return {}

    model = write_model(folder / "model", tiny_model())
    return {"model": model, "data": write_artifact(folder / "data", fill)}


SAMPLES = {"samples": 4, "length": 32, "split": "train", "column": "text", "join": False}
WANDA = {
    "method": "wanda",
    "pattern": "2:4",
    "sparsity": None,
    "scope": None,
    "propagation": "sequential",
}
SPARSEGPT = {
    **WANDA,
    "method": "sparsegpt",
    "dampening": 0.01,
    "blocksize": 16,
    "mask_blocksize": None,
}
HALF = {"pattern": "unstructured", "sparsity": 0.5}


def run_prune(folder, settings, weights, calibrated=None):
    sources = {"weights": weights} | ({"calibration": calibrated} if calibrated else {})
    return write_artifact(folder, lambda out: prune.run(settings, sources, out, Job(folder)))


def record_of(folder):
    return json.loads((folder / "manifest.json").read_text())["record"]


BY_BLOCK = {"model": "by-block", "activations": "disk", "chunk": 3}
