"""`prunegrid check`: what was altered after the export is named."""

from __future__ import annotations

import contextlib
import json
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from prunegrid.artifacts.artifact_folder import sealed
from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.models import checkpoint, export_forms, exported_folder
from tests.helpers import export_world, tiny
from tests.helpers.fuzzing import fuzz

pytestmark = pytest.mark.model

QUERY = "model.layers.0.self_attn.q_proj.weight"
FILE = "model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An exported folder with a card."""
    place = tmp_path_factory.mktemp("whole")
    artifact = export_world.artifact(place / "artifact", "decoder")
    folder = place / "folder"
    folder.mkdir()
    written = export_forms.write(artifact, folder, "float32")
    (folder / "README.md").write_text("# A model\n")
    (folder / ".eval_results").mkdir()
    (folder / ".eval_results/prunegrid.yaml").write_text("[]\n")
    exported_folder.seal(folder, written | {"row": {"study": "s"}})
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of it to alter."""
    shutil.copytree(whole, tmp_path / "folder")
    return tmp_path / "folder"


def changed(folder, change):
    """Write the weight file again after a change of its tensors."""
    tensors = load_file(folder / FILE)
    change(tensors)
    save_file(
        {name: t.contiguous() for name, t in tensors.items()}, folder / FILE, {"format": "pt"}
    )


def one_bit(tensors):
    tensors[QUERY].view(torch.int32)[0, 0] ^= 1


def fill_zeros(tensors):
    tensors[QUERY][tensors[QUERY] == 0] = 1e-3


def swap(tensors):
    up, gate = (f"model.layers.1.mlp.{name}_proj.weight" for name in ("up", "gate"))
    tensors[up], tensors[gate] = tensors[gate], tensors[up]


def narrow(tensors):
    tensors[QUERY] = tensors[QUERY].to(torch.bfloat16)


def reshape(tensors):
    tensors[QUERY] = tensors[QUERY].t()


def rename(tensors):
    tensors["other.weight"] = tensors.pop(QUERY)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (one_bit, [QUERY]),
        (fill_zeros, [QUERY]),
        (swap, ["layers.1.mlp.up_proj", "layers.1.mlp.gate_proj"]),
        (narrow, [QUERY]),
        (reshape, [QUERY]),
        (rename, ["other.weight was added", f"{QUERY} is missing"]),
        (lambda tensors: None, ["written again"]),
    ],
)
def test_an_altered_tensor_is_named(folder, change, words):
    if change is one_bit:  # in place, so that nothing else of the file differs
        data = bytearray((folder / FILE).read_bytes())
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        place = 8 + int.from_bytes(data[:8], "little") + header[QUERY]["data_offsets"][0]
        data[place] ^= 1
        (folder / FILE).write_bytes(data)
    elif words == ["written again"]:
        save_file(load_file(folder / FILE), folder / FILE, {"format": "pt", "by": "another"})
    else:
        changed(folder, change)
    found = exported_folder.check(folder).differences
    assert len(found) == len(words)
    assert all(any(word in text for text in found) for word in words)


def truncate(folder):
    data = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (truncate, "model.safetensors: not a whole safetensors file"),
        (lambda folder: (folder / FILE).unlink(), "model.safetensors: the file is missing"),
        (lambda folder: (folder / "config.json").write_text("{}"), "config.json: not the file"),
        (lambda folder: (folder / "modeling.py").touch(), "modeling.py: the file was added"),
        (
            lambda folder: (folder / FILE).rename(folder / "weights.safetensors"),
            "model.safetensors: renamed to weights.safetensors",
        ),
        (
            lambda folder: (folder / ".eval_results/prunegrid.yaml").write_text("[{}]"),
            ".eval_results/prunegrid.yaml: not the file",
        ),
    ],
)
def test_an_altered_file_is_named(folder, change, words):
    change(folder)
    found = exported_folder.check(folder).differences
    assert len(found) == 1 and words in found[0]


def test_the_card_may_be_edited_and_a_hub_adds_files(folder):
    assert not exported_folder.check(folder).is_edited
    (folder / "README.md").write_text("# A better text\n")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (folder / ".cache/huggingface").mkdir(parents=True)
    (folder / ".cache/huggingface/x.metadata").touch()
    outcome = exported_folder.check(folder)
    assert outcome.differences == [] and outcome.is_edited
    (folder / "README.md").unlink()
    assert exported_folder.check(folder).is_edited


@pytest.mark.parametrize("fact", ["sha256", "prunable_zeros", "nm_valid", "parameters"])
def test_zeros_are_counted_again_and_not_read(folder, fact):
    """A header that claims other weights, sealed as if it were the export's own."""
    path = folder / exported_folder.HEADER
    about = file_io.read_json(path)
    weights = about["models"][0]["weights"]
    weights[fact] = {"sha256": "0" * 64, "nm_valid": False}.get(fact, 1)
    file_io.write_json(path, sealed(about))
    found = exported_folder.check(folder).differences
    assert len(found) == 1 and fact in found[0]


def test_a_header_that_was_changed_is_refused(folder):
    path = folder / exported_folder.HEADER
    path.write_text(path.read_text().replace('"study": "s"', '"study": "t"'))
    with pytest.raises(PrunegridError, match="changed"):
        exported_folder.check(folder)


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        ("{", "JSON"),
        ("[]", "not a manifest"),
        ('{"format": "prunegrid-export", "seal": "0"}', "changed after the export"),
    ],
)
def test_a_broken_header_says_where_it_is_and_to_download_or_export_again(folder, broken, word):
    path = folder / exported_folder.HEADER
    path.write_text(broken)
    with pytest.raises(PrunegridError, match=word) as caught:
        exported_folder.check(folder)
    assert caught.value.where == str(path) and "download" in caught.value.remedy
    assert "run again" not in str(caught.value) and "repair" not in str(caught.value)


def out_of_folder(about):
    about["models"][0]["files"]["../../evil"] = "config.json"


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.update(version=99),
        lambda about: about.update(files=[]),
        lambda about: about.pop("models"),
        lambda about: about.update(models=[]),
        lambda about: about.pop("row"),
        lambda about: about["models"][0].update(weights=None),
        lambda about: about["models"][0]["files"].update(x="not listed"),
        out_of_folder,
    ],
)
def test_another_form_of_header_is_refused(folder, change):
    path = folder / exported_folder.HEADER
    about = file_io.read_json(path)
    change(about)
    file_io.write_json(path, sealed(about))
    with pytest.raises(PrunegridError, match="not the record of an exported folder"):
        exported_folder.check(folder)


ODD = st.sampled_from([None, 0, -1, 1e300, "", "x", "../x", [], ["x"], {}, {"x": 1}, True])


def spots(value, path=()):
    """Yield the place of every entry of a header but the digests, which are many."""
    if isinstance(value, (dict, list)) and path[:1] not in (("tensors",), ("files",)):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from spots(entry, (*path, key))


@fuzz(60)
@given(choice=st.integers(0, 10**6), odd=ODD)
def test_an_odd_header_is_refused_or_told(whole, folder, choice, odd):
    """Anyone may have written it: one entry of another kind, with a seal that fits."""
    about = file_io.read_json(whole / exported_folder.HEADER)
    places = [place for place in spots(about) if place != ("row",) and place[0] != "seal"]
    *above, last = places[choice % len(places)]
    entry = about
    for key in above:
        entry = entry[key]
    entry[last] = odd
    file_io.write_json(folder / exported_folder.HEADER, sealed(about))
    with contextlib.suppress(PrunegridError):
        assert isinstance(exported_folder.check(folder).differences, list)


def test_a_truncated_shard_is_named(tmp_path):
    artifact, out = tmp_path / "artifact", tmp_path / "out"
    out.mkdir()
    tiny.model("llama").save_pretrained(artifact, max_shard_size="100KB")
    tiny.finish(artifact, checkpoint.read_plain(artifact, "cpu", None, "none").record)
    written = export_forms.write(artifact, out, "float32")
    exported_folder.seal(out, written | {"row": {}})
    assert exported_folder.check(out).differences == []
    shard = sorted(out.glob("model-*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-9])
    (found,) = exported_folder.check(out).differences
    assert found.startswith(f"{shard.name}: not a whole safetensors file")


def test_a_folder_that_was_not_exported(tmp_path):
    with pytest.raises(PrunegridError, match=r"no prunegrid\.json"):
        exported_folder.check(tmp_path)
