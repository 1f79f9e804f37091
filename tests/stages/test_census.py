"""The census: exact counts, whatever the architecture, the shards and the pieces."""

import json
import os
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import numpy
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.config.studies import DECADES
from prunegrid.models import checkpoint, weight_census
from prunegrid.stages import census as stage
from prunegrid.stages import model as model_stage
from tests.helpers.architectures import ARCHITECTURES, build
from tests.helpers.pruning_jobs import Job, run_prune, write_artifact, write_model

pytestmark = pytest.mark.model

LIBRARY = Path(weight_census.__file__).resolve().parents[1]


def brute_force(weights, edges):
    """Count by comparing every single weight with every edge, as fractions."""
    counts = [0] * (len(edges) + 2)
    bounds = [Fraction(edge) for edge in edges]
    for value in weights.flatten().double().tolist():
        size = abs(Fraction(value))
        counts[0 if size == 0 else 1 + sum(size >= bound for bound in bounds)] += 1
    return counts


def saved(folder, model, **named):
    """A folder of the model, some of whose weights are zero, tiny or large."""
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            flat = parameter.view(-1)
            flat[::7] *= 10.0 ** -(index % 9)
            flat[1::11] = 0.0 if index % 2 else -0.0
            flat[:1] = 12.5
    model.save_pretrained(folder, save_original_format=False, **named)
    return folder


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_counts_are_those_of_every_single_weight(tmp_path, name):
    model = build(name)
    found = weight_census.take(saved(tmp_path, model), DECADES)
    named = dict(model.named_parameters())
    assert {entry["name"] for entry in found.tensors} == named.keys()
    for entry in found.tensors:
        assert entry["counts"] == brute_force(named[entry["name"]].detach(), DECADES)
        assert entry["parameters"] == named[entry["name"]].numel() == sum(entry["counts"])
    assert found.facts["parameters"] == sum(p.numel() for p in named.values())
    record = checkpoint.read_plain(tmp_path, "cpu", None, "none").record
    assert found.facts == {fact: record[fact] for fact in found.facts}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_edges_are_exact_in_every_precision(dtype):
    edges = [1e-6, 1e-3, 0.1, 0.5, 10.0]
    near = []
    for edge in edges:
        value = torch.tensor(edge, dtype=torch.float64).to(dtype)
        up, down = (torch.nextafter(value, torch.tensor(x, dtype=dtype)) for x in (99.0, 0.0))
        near += [value, up, down, -value, -up]
    smallest = torch.finfo(dtype).smallest_normal
    tensor = torch.stack([*near, *(torch.tensor(x, dtype=dtype) for x in (0.0, -0.0, smallest))])
    assert weight_census.count(tensor, edges) == brute_force(tensor, edges)
    assert weight_census.count(tensor, edges)[0] == 2


def test_a_weight_on_an_edge_is_above_it_and_a_rounded_one_where_it_is():
    half = weight_census.count(torch.tensor([0.5, -0.5]), [0.5])
    assert half == [0, 0, 2]
    # float32's 0.001 is a little more than 0.001, its 0.000001 a little less than that.
    assert weight_census.count(torch.tensor([1e-3]), [1e-3]) == [0, 0, 1]
    assert weight_census.count(torch.tensor([1e-6]), [1e-6]) == [0, 1, 0]


@pytest.mark.parametrize("name", ["gpt2", "t5", "deberta-v2-xlarge"])
def test_neither_shards_nor_pieces_change_a_count(tmp_path, monkeypatch, name):
    whole = weight_census.take(saved(tmp_path / "one", build(name)), DECADES)
    many = saved(tmp_path / "many", build(name), max_shard_size="5KB")
    assert len(list(many.glob("*.safetensors"))) > 3
    assert weight_census.take(many, DECADES) == whole
    monkeypatch.setattr(weight_census, "PIECE", 7)
    assert weight_census.take(many, DECADES) == whole


def test_scalars_and_narrow_types_are_read_too(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_census, "PIECE", 3)
    tensors = {"scalar": torch.tensor(0.25), "half": torch.arange(10).bfloat16()}
    save_file(tensors, tmp_path / "t.safetensors")
    for name, tensor in tensors.items():
        stored = weight_census.StoredTensor(tmp_path / "t.safetensors", name, list(tensor.shape))
        pieces = [piece.reshape(-1) for piece in stored.pieces()]
        assert torch.equal(torch.cat(pieces), tensor.reshape(-1))
        assert all(piece.numel() <= 3 for piece in pieces)


def damaged(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("transformer.ln_f.weight"), "missing: transformer.ln_f.weight"),
        (lambda t: t.update(extra=torch.ones(2)), "unknown: extra"),
        (lambda t: t.update({"transformer.ln_f.bias": torch.ones(2)}), "of another shape"),
        (lambda t: t["transformer.wte.weight"].view(-1)[5:6].fill_(float("nan")), "NaN"),
    ],
)
def test_files_that_are_not_the_models_are_refused(tmp_path, change, words):
    saved(tmp_path, build("gpt2"))
    damaged(tmp_path, change)
    with pytest.raises(PrunegridError, match=words):
        weight_census.take(tmp_path, DECADES)


def test_buffers_that_are_saved_are_no_weights(tmp_path, monkeypatch):
    model = build("gpt2")
    saved(tmp_path, model)
    plain = weight_census.take(tmp_path, DECADES)
    mask = torch.tril(torch.ones(64, 64))[None, None]
    damaged(tmp_path, lambda t: t.update({"transformer.h.0.attn.mask": mask}))
    made = weight_census.loading.skeleton

    def with_mask(folder):
        skeleton = made(folder)
        skeleton.transformer.h[0].attn.register_buffer("mask", mask)
        return skeleton

    monkeypatch.setattr(weight_census.loading, "skeleton", with_mask)
    found = weight_census.take(tmp_path, DECADES)
    assert found.tensors == plain.tensors
    assert found.facts["sha256"] != plain.facts["sha256"]  # it was read, and is attested


def artifact(folder, source, task, **more):
    settings = {"source": source, "dtype": "float32", "task": task, **more}
    return write_artifact(folder, lambda out: model_stage.run(settings, {}, out, Job(folder)))


def hub_gpt2(tensors, config):
    """GPT-2's file on the hub: no prefix, no head, and a causal mask in each block."""
    mask = torch.tril(torch.ones(config.n_positions, config.n_positions))[None, None]
    plain = {name.removeprefix("transformer."): t for name, t in tensors.items()}
    return plain | {f"h.{index}.attn.bias": mask.clone() for index in range(config.n_layer)}


def hub_deberta(tensors, config):
    """DeBERTa's: a prefix, and a head of its own that the encoder does not have."""
    head = {"lm_predictions.lm_head.dense.weight": torch.ones(16, 16)}
    return {f"deberta.{name}": t for name, t in tensors.items()} | head


def hub_m2m100(tensors, config):
    """M2M100's: the table that all share under each of its names."""
    names = ("model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head")
    return tensors | {f"{name}.weight": tensors["model.shared.weight"] for name in names}


@pytest.mark.parametrize(
    ("name", "task", "as_published"),
    [
        ("gpt2", "causal-lm", hub_gpt2),
        ("deberta-v2-xlarge", "encoder", hub_deberta),
        ("m2m100", "seq2seq-lm", hub_m2m100),
    ],
)
def test_each_family_from_its_published_form_to_its_counts(tmp_path, name, task, as_published):
    model, place = build(name), tmp_path / "published"
    saved(place, model)
    tensors = as_published(load_file(place / "model.safetensors"), model.config)
    (place / "model.safetensors").unlink()
    torch.save(tensors, place / "pytorch_model.bin")
    source = {"kind": "local", "path": str(place)}
    weights = artifact(tmp_path / "model", source, task, tokenizer=False)
    assert not list(weights.glob("tokenizer*"))
    done = write_artifact(
        tmp_path / "census",
        lambda out: stage.run({"edges": DECADES}, {"weights": weights}, out, Job(tmp_path)),
    )
    rows = pq.read_table(done / "tensors.parquet").to_pylist()
    assert sum(row["parameters"] for row in rows) == sum(p.numel() for p in model.parameters())
    named = dict(model.named_parameters())
    for row in rows:
        counts = [row[f"bin_{index}"] for index in range(len(DECADES) + 2)]
        assert counts == brute_force(named[row["name"]].detach(), DECADES)


def test_a_folder_without_tokenizer_needs_to_be_said(tmp_path):
    saved(tmp_path / "bare", build("minilm"))
    source = {"kind": "local", "path": str(tmp_path / "bare")}
    with pytest.raises(PrunegridError, match="no tokenizer.*tokenizer: false"):
        artifact(tmp_path / "a", source, "encoder")
    bare = artifact(tmp_path / "b", source, "encoder", tokenizer=False)
    assert checkpoint.load(bare).tokenizer is None


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
@pytest.mark.parametrize("name", ["llama", "bert", "t5"])
def test_the_zeros_of_a_pruned_model_are_its_sparsity(tmp_path, name, pattern):
    weights = write_model(tmp_path / "model", build(name))
    sparsity = 0.5 if pattern == "unstructured" else None
    settings = {"method": "magnitude", "pattern": pattern, "sparsity": sparsity}
    pruned = run_prune(tmp_path / "pruned", settings | {"scope": None}, weights)
    found = weight_census.take(pruned, DECADES)
    linears = [e for e in found.tensors if e["kind"] in ("attention", "mlp")]
    record = file_io.read_json(pruned / artifact_folder.MANIFEST)["record"]["weights"]
    assert sum(e["counts"][0] for e in linears) == record["prunable_zeros"]
    assert sum(e["parameters"] for e in linears) == record["prunable_parameters"]
    assert sum(e["counts"][0] for e in linears) * 2 == sum(e["parameters"] for e in linears)


def test_weights_that_the_manifest_does_not_name_fail(tmp_path):
    weights = write_model(tmp_path / "model", build("llama"))
    damaged(weights, lambda t: t["model.norm.weight"].add_(1))
    (tmp_path / "out").mkdir()
    with pytest.raises(AttestationError, match="sha256"):
        stage.run({"edges": DECADES}, {"weights": weights}, tmp_path / "out", Job(tmp_path))


MEASURE = """
import re, sys
sys.path.insert(0, {library!r})
import torch, transformers.models.llama.modeling_llama
from prunegrid.models import weight_census
torch.set_num_threads(1)
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
before = peak()
found = weight_census.take({folder!r}, [1e-6, 1e-3, 1.0])
print(before, peak(), found.facts["parameters"])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
def test_the_peak_is_that_of_a_piece_and_not_of_the_weights(tmp_path):
    """400 MB in shards, half of it one tensor: beside the imports a few pieces are held."""
    shape = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 49152}
    config = AutoConfig.for_model("llama", **shape, **heads, tie_word_embeddings=True)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(tmp_path)
    named = dict(weight_census.loading.skeleton(tmp_path).named_parameters())
    for index, (name, parameter) in enumerate(named.items()):
        tensor = torch.rand(1).expand(parameter.shape).contiguous()
        save_file({name: tensor}, tmp_path / f"model-{index:03}.safetensors", {"format": "pt"})
    code = textwrap.dedent(MEASURE.format(library=str(LIBRARY), folder=str(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True
    )
    before, peak, parameters = map(int, done.stdout.split())
    size = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert parameters == sum(p.numel() for p in named.values()) and size > 390e6
    piece = 4 * weight_census.PIECE
    assert peak - before < 10 * piece < size / 2
    assert json.loads((tmp_path / "config.json").read_text())["hidden_size"] == 1024


def test_digitize_agrees(tmp_path):
    """numpy's histogram, on float64, where its last edge is closed and ours are not."""
    model = build("opt-125m")
    found = weight_census.take(saved(tmp_path, model), DECADES)
    weights = numpy.concatenate([p.detach().double().numpy().ravel() for p in model.parameters()])
    counts = numpy.bincount(numpy.digitize(abs(weights), DECADES), minlength=len(DECADES) + 1)
    ours = numpy.sum([entry["counts"] for entry in found.tensors], axis=0)
    assert [ours[0] + ours[1], *ours[2:]] == counts.tolist()
