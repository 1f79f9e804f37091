"""Packed folders load again as what they were; of a broken one nothing comes out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from prunegrid.artifacts import artifact_folder
from prunegrid.commands import cli
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.models import checkpoint
from prunegrid.models.packed import container, packed_checkpoint
from prunegrid.models.packed import tensor_forms as packed_forms
from tests.helpers import tiny
from tests.helpers.fuzzing import fuzz

pytestmark = pytest.mark.model


def packed(tmp_path, kind="llama", pattern="2:4", **named) -> tuple[Path, Path]:
    """Return a plain artifact and its packed folder."""
    weights = tiny.artifact(tmp_path / "w", kind, pattern, **named)
    packed_checkpoint.pack(weights, tmp_path / "packed")
    return weights, tmp_path / "packed"


def reseal(place: Path) -> None:
    """Make the header fit the files again, as a careful forger would."""
    header = file_io.read_json(place / packed_checkpoint.HEADER)
    header["files"] = {
        name: facts
        for name, facts in artifact_folder.list_files(place).items()
        if name != packed_checkpoint.HEADER
    }
    file_io.write_json(place / packed_checkpoint.HEADER, header)


@pytest.mark.parametrize("kind", ["opt", "llama", "gpt2"])
@pytest.mark.parametrize("pattern", [None, "unstructured", "2:4", "4:8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_folder_unpacks_to_a_plain_one(tmp_path, kind, pattern, dtype):
    weights, place = packed(tmp_path, kind, pattern, dtype=dtype)
    facts = packed_checkpoint.unpack(place, tmp_path / "out")
    recorded = file_io.read_json(weights / artifact_folder.MANIFEST)["record"]["weights"]["sha256"]
    assert facts["weights_sha256"] == recorded == checkpoint.file_weights_sha256(tmp_path / "out")
    plain = AutoModelForCausalLM.from_pretrained(weights, local_files_only=True)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", local_files_only=True)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(plain(ids).logits, again(ids).logits)
    words = AutoTokenizer.from_pretrained(tmp_path / "out", local_files_only=True)
    assert words("w1 w2").input_ids == tiny.tokenizer()("w1 w2").input_ids
    dense = (weights / "model.safetensors").stat().st_size
    small = (place / packed_checkpoint.WEIGHTS).stat().st_size
    assert small < 0.95 * dense if pattern else small <= dense + 4096


def test_a_folder_without_a_manifest_in_shards_packs_too(tmp_path):
    made = tiny.model("gpt2")
    tiny.prune_(made, "2:4")
    made.save_pretrained(tmp_path / "w", max_shard_size="60KB")
    assert len(list((tmp_path / "w").glob("*.safetensors"))) > 1
    facts = packed_checkpoint.pack(tmp_path / "w", tmp_path / "packed")
    assert facts["packed_as"]["nm"] == 8
    packed_checkpoint.unpack(tmp_path / "packed" / packed_checkpoint.WEIGHTS, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", local_files_only=True)
    for name, value in made.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not list((tmp_path / "out").glob("*.index.json"))


def test_the_command_says_what_it_did(tmp_path, capsys):
    weights = tiny.artifact(tmp_path / "w", "llama", "2:4")
    assert cli.main(["pack", str(weights), str(tmp_path / "p")]) == 0
    assert cli.main(["unpack", str(tmp_path / "p"), str(tmp_path / "o")]) == 0
    shown = capsys.readouterr().out
    assert "of the dense weights" in shown and checkpoint.file_weights_sha256(weights) in shown
    for command in (["pack", str(weights)], ["unpack", str(tmp_path / "p")]):
        assert cli.main([*command, str(tmp_path / "o")]) == 1
        assert "there is something already" in capsys.readouterr().err
    assert cli.main(["unpack", str(tmp_path / "none"), str(tmp_path / "x")]) == 1
    assert cli.main(["pack", str(tmp_path / "p"), str(tmp_path / "x")]) == 1
    assert not (tmp_path / "x").exists()


def test_weights_of_another_digest_are_not_packed(tmp_path):
    weights = tiny.artifact(tmp_path / "w", "llama", "2:4")
    tensors = load_file(weights / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, weights / "model.safetensors", {"format": "pt"})
    with pytest.raises(AttestationError, match="its weights hash to"):
        packed_checkpoint.pack(weights, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_a_writer_that_loses_a_value_fails(tmp_path, monkeypatch):
    encode = packed_forms.encode

    def loses(tensor, form):
        parts = encode(tensor, form)
        if form.kind == "nm":
            parts["values"][3] = 0
        return parts

    monkeypatch.setattr(packed_forms, "encode", loses)
    weights = tiny.artifact(tmp_path / "w", "llama", "2:4")
    with pytest.raises(AttestationError, match="is not the one written"):
        packed_checkpoint.pack(weights, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def swap(place, name="model.layers.0.mlp.up_proj.weight", **changes):
    """Write parts of the packed file anew."""
    path = place / packed_checkpoint.WEIGHTS
    with safe_open(path, framework="pt") as handle:
        about = handle.metadata()
    parts = load_file(path)
    for part, change in changes.items():
        if change is None:
            del parts[f"{name}#{part}"]
        else:
            parts[f"{name}#{part}"] = change(parts[f"{name}#{part}"])
    save_file(parts, path, about)


def header(place, change):
    path = place / packed_checkpoint.WEIGHTS
    with safe_open(path, framework="pt") as handle:
        about = json.loads(handle.metadata()[container.METADATA])
    change(about)
    save_file(load_file(path), path, {container.METADATA: json.dumps(about)})


def first(about):
    return about["tensors"]["model.layers.0.mlp.up_proj.weight"]


HOSTILE = {
    "truncated": (
        lambda p: cut(p / packed_checkpoint.WEIGHTS, 500),
        "not a whole safetensors file",
    ),
    "empty": (
        lambda p: (p / packed_checkpoint.WEIGHTS).write_bytes(b""),
        "not a whole safetensors file",
    ),
    "another value": (lambda p: swap(p, values=lambda v: v + 1), "unpacked weights hash to"),
    "fewer values": (lambda p: swap(p, values=lambda v: v[:-1].clone()), "values; expected 4096"),
    "index out of range": (lambda p: swap(p, codes=lambda c: c | 255), "index 7; expected less"),
    "no codes": (lambda p: swap(p, codes=None), "missing or not named"),
    "wrong shape": (
        lambda p: header(p, lambda h: first(h).update(shape=[64, 128])),
        "unpacked weights hash to",
    ),
    "huge shape": (
        lambda p: header(p, lambda h: first(h).update(shape=[2**40, 2**20])),
        "codes are uint8",
    ),
    "no shape": (lambda p: header(p, lambda h: first(h).update(shape="big")), "shape big"),
    "odd groups": (lambda p: header(p, lambda h: first(h).update(keep=4)), "keeps 4 of 4"),
    "odd axis": (lambda p: header(p, lambda h: first(h).update(axis=7)), "axis 7"),
    "no form": (lambda p: header(p, lambda h: first(h).update(form=["nm"])), "cannot be read"),
    "entry no mapping": (
        lambda p: header(p, lambda h: h["tensors"].update(x=[])),
        "cannot be read",
    ),
    "unknown tensor": (
        lambda p: header(p, lambda h: h["tensors"].update(x={"form": "dense"})),
        "missing or not named",
    ),
    "another version": (lambda p: header(p, lambda h: h.update(version=3)), "version 3"),
    "not packed": (
        lambda p: save_file({"x": torch.ones(2)}, p / packed_checkpoint.WEIGHTS),
        "header cannot be read",
    ),
}


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return packed(tmp_path_factory.mktemp("good"))[1]


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_forged_file_is_refused(good, tmp_path, fault):
    place = tmp_path / "p"
    shutil.copytree(good, place)
    spoil, match = HOSTILE[fault]
    spoil(place)
    with pytest.raises(AttestationError, match="is not the one that packed.json records"):
        packed_checkpoint.unpack(place, tmp_path / "out")
    reseal(place)
    with pytest.raises(PrunegridError, match=match):
        packed_checkpoint.unpack(place, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p"]


@pytest.mark.parametrize(
    "name",
    ["../o.json", "/etc/passwd", "a/b.json", ".x.json", "x.py", "model.safetensors", "a\\b.json"]
    + ["x" * 300 + ".json"],
)
def test_names_that_leave_the_folder_are_refused(good, tmp_path, name):
    place = tmp_path / "p"
    shutil.copytree(good, place)
    about = file_io.read_json(place / packed_checkpoint.HEADER)
    about["files"][name] = about["files"]["config.json"]
    file_io.write_json(place / packed_checkpoint.HEADER, about)
    with pytest.raises(PrunegridError, match="it names the file"):
        packed_checkpoint.unpack(place, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, '{"format": "prunegrid-packed"}', "\x00"]
)
def test_a_broken_header_is_refused(good, tmp_path, text):
    place = tmp_path / "p"
    shutil.copytree(good, place)
    (place / packed_checkpoint.HEADER).write_text(text)
    with pytest.raises(PrunegridError):
        packed_checkpoint.unpack(place, tmp_path / "out")


@fuzz(150)
@given(data=st.data())
def test_flipped_bytes_are_refused_or_harmless(good, tmp_path, data):
    """In any file, resealed or not: one clear error, or the very weights; never half a folder."""
    place, out = tmp_path / "p", tmp_path / "out"
    shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(good, place)
    name = data.draw(
        st.sampled_from(
            [packed_checkpoint.WEIGHTS, packed_checkpoint.WEIGHTS, packed_checkpoint.HEADER]
        )
    )
    body = bytearray((place / name).read_bytes())
    # The headers come first, so half of the flips hit them.
    last = data.draw(st.sampled_from([len(body), min(9000, len(body))])) - 1
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, last))] ^= data.draw(st.integers(1, 255))
    (place / name).write_bytes(bytes(body))
    if name == packed_checkpoint.WEIGHTS and data.draw(st.booleans()):
        reseal(place)
    try:
        packed_checkpoint.unpack(place, out)
    except PrunegridError as error:
        assert "\n" not in error.what[:20] and not out.exists()
    else:
        assert checkpoint.file_weights_sha256(out) == checkpoint.file_weights_sha256(
            good.parent / "w"
        )
    assert not list(tmp_path.glob(".*.tmp"))
