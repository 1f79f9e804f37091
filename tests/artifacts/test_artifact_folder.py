"""Artifacts are whole or absent, and say when they were changed."""

import errno
import json
import os
from types import SimpleNamespace

import pytest

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError


def make(folder, key="k" * 16, **files):
    with artifact_folder.writing(folder) as out:
        for name, text in files.items():
            (out / name).write_text(text)
        listing = artifact_folder.list_files(out)
        file_io.write_json(
            out / "manifest.json",
            {"key": key, "files": listing, "content": artifact_folder.content_digest(listing)},
        )


def test_a_whole_artifact_is_read_back(tmp_path):
    make(tmp_path / "a", x="1", y="2")
    assert set(artifact_folder.read_manifest(tmp_path / "a", "k" * 16)["files"]) == {"x", "y"}


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), artifact_folder.writing(tmp_path / "a") as out:
        (out / "half").write_text("x")
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_what_was_there(tmp_path):
    make(tmp_path / "a", x="1")
    with pytest.raises(RuntimeError), artifact_folder.writing(tmp_path / "a"):
        raise RuntimeError("stop")
    assert (tmp_path / "a" / "x").read_text() == "1"


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path):
    with (
        pytest.raises(PrunegridError, match="no space left.*free some space"),
        artifact_folder.writing(tmp_path / "a") as out,
    ):
        (out / "half").write_text("x")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_space_is_checked_before_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(artifact_folder.shutil, "disk_usage", lambda path: SimpleNamespace(free=5))
    artifact_folder.require_space(tmp_path / "not" / "yet", 5)
    with pytest.raises(PrunegridError, match="at least 0.00 GB"):
        artifact_folder.require_space(tmp_path, 6)


def test_files_get_the_permissions_that_the_umask_allows(tmp_path):
    """Weights are written for one user alone by their library; a store may be a group's."""
    before = os.umask(0o002)
    try:
        with artifact_folder.writing(tmp_path / "a") as out:
            (out / "base").mkdir()
            (out / "base/model.safetensors").touch(0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "a/base/model.safetensors").stat().st_mode & 0o777 == 0o664
    assert (tmp_path / "a/base").stat().st_mode & 0o777 == 0o775


def test_files_of_another_user_are_taken_as_they_are(tmp_path, monkeypatch):
    """Moved from a folder that a colleague's job has prepared: who does not own may not change."""
    asked = []

    def refuse(path, mode):
        asked.append(path.name)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    before = os.umask(0o002)
    try:
        with artifact_folder.writing(tmp_path / "a") as out:
            (out / "right").touch(0o664)
            (out / "other").touch(0o644)
            monkeypatch.setattr(type(out), "chmod", refuse)
    finally:
        os.umask(before)
    assert asked == ["other"]
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a").iterdir()}
    assert modes == {"right": 0o664, "other": 0o644}


def test_the_rest_of_a_killed_writer_is_swept(tmp_path):
    (tmp_path / ".a.999.tmp").mkdir()
    make(tmp_path / "a", x="1")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("fault", ["changed", "missing", "added", "manifest", "key", "torn"])
def test_any_damage_is_named(tmp_path, fault):
    folder = tmp_path / "a"
    make(folder, x="1", y="2")
    manifest = folder / "manifest.json"
    if fault == "changed":
        (folder / "x").write_text("3")
    elif fault == "missing":
        (folder / "x").unlink()
    elif fault == "added":
        (folder / "z").write_text("3")
    elif fault == "torn":
        manifest.write_text(manifest.read_text()[:40])
    else:
        body = json.loads(manifest.read_text())
        body["content" if fault == "manifest" else "key"] = "0" * 16
        manifest.write_text(json.dumps(body))
    with pytest.raises(AttestationError, match="run again"):
        artifact_folder.read_manifest(folder, "k" * 16)


def test_the_content_digest_does_not_depend_on_order_or_sizes():
    a = {"x": {"sha256": "1", "bytes": 1}, "y": {"sha256": "2", "bytes": 2}}
    b = {"y": {"sha256": "2", "bytes": 9}, "x": {"sha256": "1", "bytes": 9}}
    assert artifact_folder.content_digest(a) == artifact_folder.content_digest(b)
    assert artifact_folder.content_digest(a) != artifact_folder.content_digest({"x": a["x"]})
