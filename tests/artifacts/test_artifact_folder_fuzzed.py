"""Artifacts with any one thing damaged: told as damaged, and taken out by `prunegrid repair`."""

from __future__ import annotations

import json
import shutil
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.artifacts import artifact_folder, dropped, file_digests, lock
from prunegrid.artifacts.job_status import read_state
from prunegrid.commands import repair
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError
from tests.helpers.fuzzing import fuzz

KEY = "0123456789abcdef"
RECORD = {"weights": {"sha256": "a" * 64, "sparsity_prunable": 0.5}, "n": [1, 2.5, None, "é"]}


def make(folder):
    """Make an artifact of three files with a sealed manifest."""
    with artifact_folder.writing(folder) as out:
        (out / "model.safetensors").write_bytes(bytes(range(256)))
        (out / "base").mkdir()
        (out / "base/config.json").write_text('{"a": 1}')
        (out / "empty").touch()
        files = artifact_folder.list_files(out)
        body = {"key": KEY, "files": files, "content": artifact_folder.content_digest(files)}
        file_io.write_json(out / "manifest.json", artifact_folder.sealed(body | {"record": RECORD}))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts") / "prune" / KEY
    make(folder)
    return folder


def damaged(artifact, tmp_path):
    """Return a copy to be damaged."""
    folder = tmp_path / "artifacts" / "prune" / KEY
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(artifact, folder)
    return folder


def test_the_artifact_is_whole(artifact):
    assert artifact_folder.read_manifest(artifact, KEY)["record"] == RECORD


@fuzz(200)
@given(st.data())
def test_one_changed_byte_is_always_told(artifact, tmp_path, data):
    """In any file, at any place: flipped, dropped, doubled, or the file cut there."""
    folder = damaged(artifact, tmp_path)
    names = ["model.safetensors", "base/config.json", "manifest.json", "manifest.json"]
    path = folder / data.draw(st.sampled_from(names))
    body = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(body) - 1))
    kind = data.draw(st.sampled_from(["flip", "drop", "double", "cut"]))
    if kind == "flip":
        body[place] ^= data.draw(st.integers(1, 255))
    elif kind == "drop":
        del body[place]
    elif kind == "double":
        body.insert(place, body[place])
    else:
        del body[place:]
    path.write_bytes(body)
    try:
        found = artifact_folder.read_manifest(folder, KEY)
    except AttestationError as error:
        assert "run" in str(error)
        assert [text for text in repair.repair(tmp_path / "artifacts")]
        assert not folder.exists()
    else:
        # White space between two values, or the name of the seal: nothing that it says has changed.
        assert path.name == "manifest.json"
        assert found["record"] == RECORD and found["files"] == artifact_folder.list_files(folder)


@fuzz(200)
@given(st.data())
def test_one_changed_byte_of_a_dropped_artifact_is_always_told(artifact, tmp_path, data):
    folder = damaged(artifact, tmp_path)
    dropped.drop(folder)
    assert artifact_folder.read_manifest(folder, KEY)["record"] == RECORD
    path = folder / data.draw(st.sampled_from(["base/config.json", *["dropped.json"] * 5]))
    body = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(body) - 1))
    kind = data.draw(st.sampled_from(["flip", "drop", "cut"]))
    if kind == "flip":
        body[place] ^= data.draw(st.integers(1, 255))
    else:
        del body[place : place + 1 if kind == "drop" else None]
    path.write_bytes(body)
    try:
        found = artifact_folder.read_manifest(folder, KEY)
    except AttestationError:
        with pytest.raises(AttestationError):
            dropped.dropped(folder)
        assert repair.repair(tmp_path / "artifacts") and not folder.exists()
    else:  # white space, or the name of the seal
        assert path.name == "dropped.json" and found["record"] == RECORD
        assert dropped.dropped(folder)["files"] == ["model.safetensors"]


@pytest.mark.parametrize(
    "told",
    [
        *([], 5, None, {}, {"files": ["model.safetensors"]}, {"files": 5}, {"files": [[]]}),
        *({"files": ["model.safetensors", "other"]}, {"files": []}, {"files": ["empty"]}),
    ],
)
def test_what_a_dropped_artifact_cannot_say(artifact, tmp_path, told):
    folder = damaged(artifact, tmp_path)
    dropped.drop(folder)
    if isinstance(told, dict) and told != {"files": ["model.safetensors"]}:
        told = {"manifest": dropped.dropped(folder)["manifest"]} | told
    (folder / "dropped.json").write_text(json.dumps(told))
    with pytest.raises(AttestationError):
        artifact_folder.read_manifest(folder, KEY)
    with pytest.raises(AttestationError):
        dropped.dropped(folder)
    assert len(repair.repair(tmp_path / "artifacts")) == 1


@fuzz(100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["key", "files", "content", "seal", "x"]), inner)
        ),
        max_leaves=12,
    ),
    st.sampled_from([(), ("files",), ("content",), ("key",), ("files", "empty"), ("seal",)]),
)
def test_any_json_in_its_place_is_told(artifact, tmp_path, value, keys):
    folder = damaged(artifact, tmp_path)
    body = json.loads((folder / "manifest.json").read_text())
    tree, original = body, body
    for key in keys[:-1]:
        tree = tree[key]
    if keys:
        original, tree[keys[-1]] = tree[keys[-1]], value
    else:
        body = value
    (folder / "manifest.json").write_text(json.dumps(body))
    if original == value:
        return
    with pytest.raises(AttestationError):
        artifact_folder.read_manifest(folder, KEY)


def test_a_manifest_nested_without_end_is_told(artifact, tmp_path):
    folder = damaged(artifact, tmp_path)
    for text in ("[" * 100_000, '{"key": NaN}', "", "null", "\0", '{"files": {"a": 1}}'):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(PrunegridError):
            artifact_folder.read_manifest(folder, KEY)


def test_a_manifest_of_a_version_without_seals_is_read(artifact, tmp_path):
    folder = damaged(artifact, tmp_path)
    body = json.loads((folder / "manifest.json").read_text())
    del body["seal"]
    (folder / "manifest.json").write_text(json.dumps(body))
    assert artifact_folder.read_manifest(folder, KEY)["record"] == RECORD


def test_repair_removes_what_is_damaged_or_half_and_nothing_else(artifact, tmp_path):
    whole, half = damaged(artifact, tmp_path), tmp_path / "artifacts/scores"
    (half / f".{KEY}.77.tmp").mkdir(parents=True)
    (half / "abc").mkdir()
    told = repair.repair(tmp_path / "artifacts")
    assert len(told) == 2 and "half-written" in told[0] and "without a manifest" in told[1]
    assert whole.exists() and list(half.iterdir()) == []
    assert repair.repair(tmp_path / "artifacts") == []


def test_nothing_is_repaired_under_a_run(artifact, tmp_path, monkeypatch):
    import fcntl

    monkeypatch.chdir(tmp_path)
    lock.LIVE.parent.mkdir()
    with open(lock.LIVE, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        with pytest.raises(PrunegridError, match="a run is under way"):
            repair.repair(tmp_path)
    assert repair.repair(tmp_path) == []


@fuzz(100)
@given(
    st.sampled_from(['{"state": "running", "pid": %s}', '{"state": %s}', '{"reason": %s}', "%s"]),
    st.one_of(
        st.sampled_from(["1", '"x"', "null", "[]", "{}", '"running"', '"failed"', "-1", "true"]),
        st.integers().map(str),
        st.text(max_size=6),
    ),
)
def test_any_status_record_is_a_state_or_none(tmp_path, form, value):
    path = tmp_path / "s.json"
    path.write_text((form % value).replace("}", f', "host": "{socket.gethostname()}"}}', 1))
    found = read_state(path)
    assert found["state"] in ("running", "failed")
    assert isinstance(found["pid" if found["state"] == "running" else "reason"], (int, str))


@fuzz(60)
@given(st.data())
def test_a_damaged_note_of_digests_is_not_believed(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own.jsonl"
    own.write_text("{}")
    file_digests.CACHE.unlink(missing_ok=True)
    right = file_digests.files_digest([("", own)])
    assert file_digests.files_digest([("", own)]) == right
    body = bytearray(file_digests.CACHE.read_bytes())
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    file_digests.CACHE.write_bytes(body)
    assert file_digests.files_digest([("", own)]) == right
