"""`prunegrid.load_packed`: the model of the dense weights, packed in memory, or one clear error."""

from __future__ import annotations

import copy
import json
import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import StaticCache

import prunegrid
from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.models import blocks, checkpoint
from prunegrid.models.experts import ExpertLinear
from prunegrid.models.forward import final_states, run_window
from prunegrid.models.packed import container, operators, packed_checkpoint, packed_model
from prunegrid.models.packed.packed_linear import PackedLinear
from prunegrid.models.packed.packed_matrix import PackedMatrix
from tests.helpers import ROOT, architectures, doc_pages, expert_models, tiny, tiny_translators
from tests.helpers.fuzzing import fuzz
from tests.helpers.packed_kernels import kernel_cache as kernel_cache  # fixtures
from tests.helpers.packed_kernels import kernels as kernels
from tests.helpers.rounding import close

pytestmark = pytest.mark.model

IDS = torch.tensor([[5, 9, 6, 30, 12]])
MANY = torch.arange(3, 33).reshape(2, 15)
# What a sum of a tiny network goes through, one product after another (see `rounding.close`).
TERMS = 4096


def logits(model, ids=IDS):
    with torch.no_grad():
        return model(ids).logits


def both(tmp_path, kind="llama", pattern="unstructured", **named):
    """Return the checkpoint of an artifact, its folder, and the folder packed."""
    plain = tiny.artifact(tmp_path / "plain", kind, pattern, **named)
    packed_checkpoint.pack(plain, tmp_path / "packed")
    return checkpoint.load(plain), plain, tmp_path / "packed"


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "4:8"])
@pytest.mark.parametrize("kind", ["opt", "llama", "gpt2"])
def test_it_is_the_model_that_was_evaluated(kernels, tmp_path, kind, pattern):
    loaded, plain, packed = both(tmp_path, kind, pattern)
    for folder in (plain, packed):
        model = prunegrid.load_packed(folder)
        facts = model.packed_weights
        assert facts.sha256 == facts.dense_sha256() == loaded.record["sha256"]
        assert {form.form for form in facts.forms.values()} == {"mask"}
        assert facts.forms.keys() == blocks.prunable(loaded.model).keys()
        assert facts.kernel == kernels and not model.training
        for ids in (IDS, IDS[:, :1], MANY):
            assert close(logits(model, ids), logits(loaded.model, ids), TERMS)
        asked = {"max_new_tokens": 8, "do_sample": False}
        assert torch.equal(model.generate(IDS, **asked), loaded.model.generate(IDS, **asked))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("values", ["float32", "bfloat16", "int8"])
def test_values_take_the_place_of_the_weights(kernels, tmp_path, values, dtype):
    loaded, _, packed = both(tmp_path, dtype=dtype)
    model = prunegrid.load_packed(packed, values)
    facts = model.packed_weights
    dense = loaded.model.float()
    for name, linear in blocks.prunable(dense).items():
        stored = linear.weight.detach().to(dtype)
        # Of float32, so that what is computed with is not rounded to the stored dtype.
        linear.weight.data = PackedMatrix.of(stored.float(), values).dense()
        found = model.get_submodule(name)
        assert found.matrix.value_type == values
    dense.lm_head.weight.copy_(PackedMatrix.of(dense.lm_head.weight, values).dense())
    assert close(logits(model), logits(dense), TERMS)
    lossless = values == "float32" or (values == "bfloat16" and dtype == torch.bfloat16)
    assert facts.sha256 == loaded.record["sha256"]
    assert (facts.dense_sha256() == facts.sha256) == lossless
    assert {form.values for form in facts.forms.values()} == {values}


@pytest.mark.parametrize("values", ["float32", "bfloat16", "int8"])
def test_exact_values_are_the_narrowest_of_each_linear(kernels, tmp_path, values):
    model = tiny.model("llama")
    tiny.prune_(model, "unstructured")
    names = list(blocks.prunable(model))
    for name, linear in blocks.prunable(model).items():
        if name != names[0]:
            linear.weight.data = PackedMatrix.of(linear.weight.data, values).dense()
    model.save_pretrained(tmp_path / "plain")
    facts = prunegrid.load_packed(tmp_path / "plain").packed_weights
    assert facts.values == "exact" and facts.dense_sha256() == facts.sha256
    assert {n: form.values for n, form in facts.forms.items()} == {
        n: "float32" if n == names[0] else values for n in names
    }


def test_no_dense_weight_stays_in_memory(kernels, tmp_path):
    loaded, _, packed = both(tmp_path)
    sizes = {v: prunegrid.load_packed(packed, v).packed_weights.resident_bytes() for v in
             ("float32", "bfloat16", "int8")}  # fmt: skip
    dense = sum(p.nbytes for p in loaded.model.parameters())
    linears = [m.weight for m in blocks.prunable(loaded.model).values()]
    rest = dense - sum(w.nbytes for w in linears)
    kept = sum(int((w != 0).sum()) for w in linears)
    masks = sum(w.numel() for w in linears) / 8
    for values, size in sizes.items():
        width = {"float32": 4, "bfloat16": 2, "int8": 1}[values]
        # Beside them row pointers, scales, what kernels may read behind values, and sines.
        extra = sum(24 * len(w) + 256 for w in linears) + 1024
        assert 0 <= size - (rest + masks + width * kept) <= extra
    model = prunegrid.load_packed(packed)
    assert not [m for m in model.modules() if isinstance(m, torch.nn.Linear)][1:]  # the head


def test_negative_zeros_are_part_of_the_digest(kernels, tmp_path):
    made = tiny.model("llama")
    for linear in blocks.prunable(made).values():
        linear.weight.data *= (linear.weight.abs() > 0.07).float()
    assert any((p == 0).logical_and(p.signbit()).any() for p in made.parameters())
    (tmp_path / "w").mkdir()
    record = checkpoint.write_plain(made, None, tmp_path / "w", "unstructured").record
    facts = prunegrid.load_packed(tmp_path / "w").packed_weights
    assert facts.dense_sha256() == facts.sha256 == record["sha256"]


def test_a_saved_model_is_the_plain_one(kernels, tmp_path):
    loaded, _, packed = both(tmp_path, "gpt2")
    copied = copy.deepcopy(prunegrid.load_packed(packed))
    copied.save_pretrained(tmp_path / "saved")
    assert checkpoint.file_weights_sha256(tmp_path / "saved") == loaded.record["sha256"]
    assert torch.equal(logits(copied), logits(prunegrid.load_packed(packed)))


def test_linears_that_read_one_input_are_one_product(kernels, tmp_path):
    _, _, packed = both(tmp_path)
    model = prunegrid.load_packed(packed)
    layer = model.model.layers[0]
    q, k, v = (getattr(layer.self_attn, f"{name}_proj") for name in "qkv")
    assert q.together is k.together is v.together is not None
    assert layer.mlp.gate_proj.together is layer.mlp.up_proj.together is not None
    assert layer.self_attn.o_proj.together is None and layer.mlp.down_proj.together is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])  # the head too in bfloat16
@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_all_architectures_compute_as_with_dense_weights(kernels, tmp_path, name, dtype):
    made = architectures.build(name).to(dtype)
    tiny.prune_(made, "unstructured")
    record = checkpoint.write_plain(made, None, tmp_path, "unstructured").record
    dense = checkpoint.read_plain(tmp_path, "cpu", None, "none").model.float()
    model = prunegrid.load_packed(tmp_path)
    facts = model.packed_weights
    assert facts.dense_sha256() == record["sha256"]
    for window in (IDS, MANY[:1]):
        with torch.no_grad():
            found, expected = (final_states(run_window(m, window)) for m in (model, dense))
        assert close(found, expected, TERMS)
    for full, form in facts.forms.items():
        packed = isinstance(model.get_submodule(full), PackedLinear)
        assert packed == (form.form == "mask") == (not form.reason)
    assert any(form.form == "mask" for form in facts.forms.values())


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss", "deepseek_v3"])
def test_fused_experts_stay_dense_and_are_named(kernels, tmp_path, name):
    made = expert_models.build(name)
    tiny.prune_(made, "unstructured")
    checkpoint.write_plain(made, None, tmp_path, "unstructured")
    model = prunegrid.load_packed(tmp_path)
    linears = blocks.prunable(made)
    for full, form in model.packed_weights.forms.items():
        assert (form.form == "dense") == isinstance(linears[full], ExpertLinear)
        assert ("part of another layer's tensor" in form.reason) == (form.form == "dense")
        assert form.zeros == pytest.approx(0.5, abs=0.1)
    assert close(logits(model), logits(made), TERMS)


def test_a_weight_that_the_model_reads_itself_is_dense(kernels, tmp_path):
    folder = tiny_translators.weights(tmp_path / "w", "t5", "unstructured")
    loaded, model = checkpoint.load(folder), prunegrid.load_packed(folder)
    forms = model.packed_weights.forms
    read = {name for name, form in forms.items() if "reads its weight" in form.reason}
    assert read and all(name.endswith(".wo") for name in read)
    assert all(type(model.get_submodule(name)) is torch.nn.Linear for name in read)
    asked = {"max_new_tokens": 5, "do_sample": False}
    assert torch.equal(model.generate(IDS, **asked), loaded.model.generate(IDS, **asked))
    assert model.packed_weights.dense_sha256() == loaded.record["sha256"]


def test_a_dense_model_stays_dense_and_says_why(kernels, tmp_path):
    loaded, plain, packed = both(tmp_path, pattern=None)
    for folder in (plain, packed):
        model = prunegrid.load_packed(folder)
        reasons = {form.reason for form in model.packed_weights.forms.values()}
        assert reasons == {"packed it would take more bytes"}
        assert torch.equal(logits(model), logits(loaded.model))
    half = prunegrid.load_packed(packed, "bfloat16")
    assert {form.form for form in half.packed_weights.forms.values()} == {"mask"}


@pytest.mark.parametrize("values", ["float32", "int8"])
def test_without_kernels_the_linears_are_torch_s_own(kernels, tmp_path, monkeypatch, values):
    _, _, packed = both(tmp_path, "gpt2")
    expected = logits(prunegrid.load_packed(packed, values))

    def fails():
        raise PrunegridError("no C++ compiler was found")

    with monkeypatch.context() as patch:
        patch.setattr(operators, "usable", fails)
        model = prunegrid.load_packed(packed, values)
    facts = model.packed_weights
    assert facts.kernel is None and not any(isinstance(m, PackedLinear) for m in model.modules())
    assert {(f.form, f.reason) for f in facts.forms.values()} == {("dense", "there is no kernel")}
    assert close(logits(model), expected, TERMS)
    assert (facts.dense_sha256() == facts.sha256) == (values == "float32")


def test_the_lines_of_the_page_run(kernels, tmp_path, monkeypatch, capsys):
    both(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {"inputs": IDS, "prompt": IDS}
    for block in doc_pages.blocks(ROOT / "docs/how-to/run-packed.md", "python"):
        exec(block.text, names)
    assert names["tokens"].shape == (1, IDS.shape[1] + 8)
    long = names["model"].generate(IDS, max_new_tokens=65, min_new_tokens=65, do_sample=False)
    assert names["ids"].item() == long[0, -1]
    assert capsys.readouterr().out.startswith(kernels)


def test_values_of_another_name_are_told_with_the_nearest(tmp_path):
    with pytest.raises(PrunegridError, match="'float16'.*did you mean 'bfloat16'"):
        prunegrid.load_packed(tmp_path, "float16")


def test_folders_that_are_no_model_are_told(tmp_path):
    with pytest.raises(PrunegridError, match="no such folder"):
        prunegrid.load_packed(tmp_path / "missing")
    with pytest.raises(PrunegridError, match="no safetensors file"):
        prunegrid.load_packed(tmp_path)


def test_weights_of_another_record_are_refused(kernels, tmp_path):
    _, plain, _ = both(tmp_path)
    manifest = file_io.read_json(plain / artifact_folder.MANIFEST)
    manifest["record"]["weights"]["sha256"] = "0" * 64
    file_io.write_json(plain / artifact_folder.MANIFEST, manifest)
    with pytest.raises(AttestationError, match="its weights hash to"):
        prunegrid.load_packed(plain)


def test_a_folder_of_another_version_says_which(tmp_path):
    _, _, packed = both(tmp_path)
    header = file_io.read_json(packed / packed_checkpoint.HEADER) | {"version": 7}
    file_io.write_json(packed / packed_checkpoint.HEADER, header)
    with pytest.raises(PrunegridError, match="version 7; expected .*version 2.*pack the weights"):
        prunegrid.load_packed(packed)


def reseal(packed, parts, about=None):
    """Write other parts into a packed folder, and make its header fit the file."""
    path = packed / packed_checkpoint.WEIGHTS
    if about is None:
        body = path.read_bytes()
        size = int.from_bytes(body[:8], "little")
        about = json.loads(body[8 : 8 + size])["__metadata__"][container.METADATA]
    save_file(parts, path, {container.METADATA: about})
    seal(packed)


def seal(packed):
    """Make the header fit the files."""
    header = file_io.read_json(packed / packed_checkpoint.HEADER)
    header["files"] = {
        name: facts
        for name, facts in artifact_folder.list_files(packed).items()
        if name != packed_checkpoint.HEADER
    }
    file_io.write_json(packed / packed_checkpoint.HEADER, header)


@pytest.mark.parametrize("damage", ["bit", "moved", "values"])
def test_a_damaged_mask_is_refused(kernels, tmp_path, damage):
    _, _, packed = both(tmp_path)
    parts = load_file(packed / packed_checkpoint.WEIGHTS)
    name = min(part for part in parts if part.endswith("#mask"))
    mask, values = parts[name], name.replace("#mask", "#values")
    if damage == "bit":
        mask[0] ^= 1
    elif damage == "moved":
        parts[name] = mask.roll(1)  # as many values, in other places
    else:
        parts[values] = parts[values][:-1].clone()
    reseal(packed, parts)
    with pytest.raises(PrunegridError) as told:
        prunegrid.load_packed(packed)
    if damage == "moved":
        assert isinstance(told.value, AttestationError) and "hash to" in str(told.value)
    else:
        assert "values; expected" in str(told.value) and "as its places say" in str(told.value)


@fuzz(20)
@given(st.data())
def test_any_flipped_byte_of_weights_is_told(kernels, tmp_path, data):
    packed = tmp_path / "packed"
    if not packed.exists():
        both(tmp_path)
        (tmp_path / "whole").write_bytes((packed / packed_checkpoint.WEIGHTS).read_bytes())
    body = bytearray((tmp_path / "whole").read_bytes())
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= 1 << data.draw(st.integers(0, 7))
    (packed / packed_checkpoint.WEIGHTS).write_bytes(body)
    with pytest.raises(AttestationError, match="packed.safetensors is not the one"):
        prunegrid.load_packed(packed)
    seal(packed)  # as a careful forger would
    with pytest.raises(PrunegridError):
        prunegrid.load_packed(packed)


def test_a_model_that_cannot_run_is_told(kernels, tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("an odd forward")

    _, _, packed = both(tmp_path)
    monkeypatch.setattr(packed_model, "run_window", fails)
    with pytest.raises(PrunegridError, match="cannot run on 4 tokens.*an odd forward"):
        prunegrid.load_packed(packed)


def test_a_folder_that_lacks_a_tensor_is_told(kernels, tmp_path):
    _, plain, _ = both(tmp_path)
    (plain / artifact_folder.MANIFEST).unlink()
    tensors = load_file(plain / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, plain / "model.safetensors", {"format": "pt"})
    with pytest.raises(PrunegridError, match="missing keys: .*up_proj"):
        prunegrid.load_packed(plain)


def test_nothing_is_said_where_all_is_well(kernels, tmp_path, caplog):
    _, _, packed = both(tmp_path)
    with caplog.at_level(logging.INFO, "prunegrid"):
        caplog.clear()
        prunegrid.load_packed(packed)
    assert not caplog.records


@pytest.mark.parametrize("values", ["float32", "int8"])
def test_a_compiled_step_is_one_graph_and_computes_the_same(kernels, tmp_path, monkeypatch, values):
    _, _, packed = both(tmp_path)
    model = prunegrid.load_packed(packed, values)
    monkeypatch.delenv("TORCHDYNAMO_DISABLE")  # conftest sets it
    compiled = torch.compile(model.forward, backend="aot_eager", fullgraph=True)
    caches = [StaticCache(config=model.config, max_cache_len=16) for _ in range(2)]
    for ids in (IDS, IDS[:, 3:4], IDS[:, 2:3]):
        options = {"use_cache": True, "input_ids": ids}
        with torch.no_grad():
            found = compiled(past_key_values=caches[0], **options).logits
            expected = model(past_key_values=caches[1], **options).logits
        assert close(found, expected, TERMS)
