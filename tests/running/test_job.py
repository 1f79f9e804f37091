"""Running a step: artifacts whole or absent, reasons kept, secrets left out."""

import contextlib
import errno
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from prunegrid.artifacts import artifact_folder, dropped, preconditions
from prunegrid.artifacts.file_digests import path_digest
from prunegrid.artifacts.job_status import read_state
from prunegrid.artifacts.keys import code_digest
from prunegrid.artifacts.lock import only_maker
from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.running import job


@pytest.fixture
def stage(monkeypatch):
    """A stage whose `run` the test sets."""
    module = ModuleType("prunegrid.stages.pretend")
    monkeypatch.setitem(sys.modules, "prunegrid.stages.pretend", module)
    return module


@pytest.fixture
def node(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return {
        "stage": "pretend",
        "key": "a" * 16,
        "label": "pretend step",
        "path": str(tmp_path / "artifacts/pretend" / ("a" * 16)),
        "scratch": str(tmp_path / "scratch"),
        "status": str(tmp_path / "status.json"),
        "settings": {"seed": 3},
        "parents": {},
        "roots": ["prunegrid.common.errors"],
        "code": code_digest(["prunegrid.common.errors"]),
        "pins": {},
        "threads": 1,
        "memory": {"model": "whole", "activations": "device", "chunk": 8},
        "training": {"checkpoint_every_s": None},
        "device": "cpu",
        "compute_dtype": None,
    }


def make_parent(tmp_path, name="x"):
    folder = tmp_path / "parent"
    with artifact_folder.writing(folder) as out:
        (out / name).write_text("1")
        files = artifact_folder.list_files(out)
        file_io.write_json(
            out / "manifest.json",
            {
                "key": "p" * 16,
                "stage": "model",
                "label": "parent",
                "seconds": 1,
                "peak_memory_bytes": 1,
                "files": files,
                "content": artifact_folder.content_digest(files),
                "lineage": [],
                "record": {"fact": 1},
            },
        )
    return folder


def drop(parent):
    """Drop the only file of the parent."""
    told = {"files": ["x"], "manifest": file_io.read_json(parent / "manifest.json")}
    file_io.write_json(parent / "dropped.json", told)
    (parent / "manifest.json").unlink()
    (parent / "x").unlink()


def test_a_step_becomes_an_artifact_with_its_lineage(tmp_path, stage, node):
    parent = make_parent(tmp_path)
    node["parents"] = {"weights": {"path": str(parent), "key": "p" * 16, "stage": "model"}}

    def run(settings, parents, out, job):
        assert json.loads((tmp_path / "status.json").read_text())["state"] == "running"
        (job.scratch / "note").write_text("kept while running")
        (out / "y").write_text((parents["weights"] / "x").read_text())
        return {"seed": job.seed("one"), "other": job.seed("two")}

    stage.run = run
    job.run_step(node, tmp_path / "log")
    manifest = artifact_folder.read_manifest(tmp_path / "artifacts/pretend" / ("a" * 16), "a" * 16)
    assert manifest["record"]["seed"] != manifest["record"]["other"]
    assert manifest["lineage"][0]["record"] == {"fact": 1}
    assert (
        manifest["parents"]["weights"]["content"]
        == artifact_folder.read_manifest(parent)["content"]
    )
    assert not (tmp_path / "scratch").exists() and not (tmp_path / "status.json").exists()
    assert "done in" in (tmp_path / "log").read_text()


@pytest.fixture
def made(tmp_path, stage, node):
    """A whole artifact whose job is tried again, as where another member of its group failed."""
    node["parents"] = {
        "weights": {"path": str(make_parent(tmp_path)), "key": "p" * 16, "stage": "model"}
    }
    runs = []

    def run(settings, parents, out, job):
        runs.append((out / "y").write_text(f"{len(runs)}"))
        return {}

    stage.run = run
    job.run_step(node)
    manifest = tmp_path / "artifacts/pretend" / ("a" * 16) / "manifest.json"
    return runs, manifest, manifest.read_text()


def test_the_next_try_takes_what_is_whole(tmp_path, node, made):
    runs, manifest, before = made
    job.run_step(node, tmp_path / "log")
    assert len(runs) == 1 and manifest.read_text() == before
    assert "is there already" in (tmp_path / "log").read_text()
    manifest.unlink()
    job.run_step(node)
    assert len(runs) == 2


def test_the_next_try_takes_what_is_whole_though_what_it_read_was_dropped(node, made):
    runs, manifest, before = made
    drop(Path(node["parents"]["weights"]["path"]))
    job.run_step(node)
    assert len(runs) == 1 and manifest.read_text() == before


@pytest.mark.parametrize("what", ["file", "manifest", "parent", "folder"])
def test_the_next_try_makes_again_what_is_not(tmp_path, node, made, what):
    runs, manifest, _ = made
    if what == "file":
        (manifest.parent / "y").write_text("x")
    elif what == "manifest":
        manifest.write_text('{"key": "')
    elif what == "folder":
        shutil.rmtree(manifest.parent)
    else:
        changed = json.loads((tmp_path / "parent/manifest.json").read_text())
        (tmp_path / "parent/x").write_text("2")
        changed["files"] = artifact_folder.list_files(tmp_path / "parent")
        changed["content"] = artifact_folder.content_digest(changed["files"])
        file_io.write_json(tmp_path / "parent/manifest.json", changed)
    job.run_step(node)
    assert len(runs) == 2 and (manifest.parent / "y").read_text() == "1"
    assert artifact_folder.read_manifest(manifest.parent, "a" * 16)


def test_a_full_disk_is_a_reason_and_no_other_error(stage, node, monkeypatch):
    stage.run = lambda settings, parents, out, job: {}
    write = file_io.write_json

    def full(path, body):
        if body.get("state") == "running":
            raise OSError(errno.ENOSPC, "no space")
        write(path, body)

    monkeypatch.setattr(file_io, "write_json", full)
    with pytest.raises(SystemExit):
        job.run_step(node)
    assert "no space left on the disk" in read_state(Path(node["status"]))["reason"]


def test_one_that_another_job_makes_is_waited_for(stage, node):
    ran, begun = [], threading.Event()
    stage.run = lambda settings, parents, out, job: ran.append(job.where) or {}

    def elsewhere():
        with only_maker(Path(f"{node['scratch']}.lock"), "elsewhere"):
            begun.set()
            time.sleep(0.5)
            job.make_artifact(node, ["cpu"])

    other = threading.Thread(target=elsewhere)
    other.start()
    begun.wait()
    job.run_step(node)
    other.join()
    assert ran == ["pretend step"]


@pytest.mark.parametrize("damage", ["changed", "other key"])
def test_a_damaged_parent_stops_the_step_before_it_starts(tmp_path, stage, node, damage):
    parent = make_parent(tmp_path)
    key = "q" * 16 if damage == "other key" else "p" * 16
    if damage == "changed":
        (parent / "x").write_text("2")
    node["parents"] = {"weights": {"path": str(parent), "key": key, "stage": "model"}}
    stage.run = lambda *a: pytest.fail("it ran")
    with pytest.raises(SystemExit):
        job.run_step(node)
    assert "run again" in read_state(tmp_path / "status.json")["reason"]


def test_a_step_that_does_not_fit_on_the_disk_does_not_start(tmp_path, stage, node, monkeypatch):
    monkeypatch.setattr(artifact_folder.shutil, "disk_usage", lambda path: SimpleNamespace(free=5))
    stage.run = lambda *a: pytest.fail("it ran")
    with pytest.raises(SystemExit):
        job.run_step(node)
    assert "free some space" in read_state(tmp_path / "status.json")["reason"]


def test_dropped_weights_are_not_read(tmp_path, stage, node):
    parent = make_parent(tmp_path)
    drop(parent)
    node["parents"] = {"weights": {"path": str(parent), "key": "p" * 16, "stage": "model"}}
    stage.run = lambda *a: pytest.fail("it ran")
    with pytest.raises(SystemExit):
        job.run_step(node)
    assert "were dropped" in read_state(tmp_path / "status.json")["reason"]


def test_what_was_dropped_is_made_again_as_it_was_or_the_step_fails(tmp_path, stage, node):
    parent, folder = make_parent(tmp_path), Path(node["path"])
    node["parents"] = {"weights": {"path": str(parent), "key": "p" * 16, "stage": "model"}}
    contents = iter([b"1", b"1", b"2"])

    def run(settings, parents, out, job):
        (out / "w.safetensors").write_bytes(next(contents))
        (out / "story.json").write_text(str(time.monotonic()))
        return {}

    stage.run = run
    job.run_step(node)
    before = (folder / "manifest.json").read_bytes()
    dropped.drop(folder)
    assert not (folder / "w.safetensors").exists()
    # Its only reader has not run, so it stays.
    job.run_step(node | {"retire": [{"path": str(folder), "needed_by": [str(tmp_path / "no")]}]})
    assert (folder / "manifest.json").read_bytes() == before
    assert artifact_folder.read_manifest(folder)["files"].keys() == {"w.safetensors", "story.json"}
    assert (folder / "w.safetensors").read_bytes() == b"1"
    dropped.drop(folder)
    with pytest.raises(SystemExit):
        job.run_step(node)
    assert "is not what was dropped" in read_state(tmp_path / "status.json")["reason"]


def test_a_failure_leaves_its_reason_and_nothing_else(tmp_path, stage, node):
    def run(settings, parents, out, job):
        (out / "half").write_text("x")
        raise PrunegridError("too odd", where="here", remedy="mend it")

    stage.run = run
    with pytest.raises(SystemExit) as caught:
        job.run_step(node, tmp_path / "log")
    assert caught.value.code == 1
    assert read_state(tmp_path / "status.json") == {
        "state": "failed",
        "reason": "here: too odd; mend it",
        "label": "pretend step",
    }
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert list((tmp_path / "artifacts/pretend").iterdir()) == []


def test_a_fault_of_the_program_keeps_its_traceback_in_the_log(tmp_path, stage, node):
    stage.run = lambda *a: 1 / 0
    with pytest.raises(SystemExit):
        job.run_step(node, tmp_path / "log")
    assert "Traceback" in (tmp_path / "log").read_text()
    assert "ZeroDivisionError" in read_state(tmp_path / "status.json")["reason"]


def test_code_or_a_file_edited_during_a_run_stops_the_step(tmp_path, stage, node):
    stage.run = lambda *a: {}
    with pytest.raises(SystemExit):
        job.run_step(node | {"code": "0" * 16})
    assert "the code was changed" in read_state(tmp_path / "status.json")["reason"]
    own = tmp_path / "own.jsonl"
    own.write_text("1")
    source = {"kind": "local", "path": str(own), "digest": path_digest(own)}
    node["settings"] = {"source": source}
    job.run_step(node)
    shutil.rmtree(node["path"])
    own.write_text("2")
    with pytest.raises(SystemExit):
        job.run_step(node)
    assert "it was changed meanwhile" in read_state(tmp_path / "status.json")["reason"]


def test_a_cancelled_job_says_so(tmp_path, stage, node):
    """Whatever it was doing: a save that goes on without its file must not go on without this."""

    def run(*arguments):
        with contextlib.suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
        return {}

    stage.run = run
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit):
            job.run_step(node)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "told to stop" in read_state(tmp_path / "status.json")["reason"]


def test_a_dead_job_does_not_count_as_running(tmp_path):
    import socket

    path = tmp_path / "s.json"
    file_io.write_json(path, {"state": "running", "pid": 2**22 + 1, "host": socket.gethostname()})
    assert read_state(path)["state"] == "failed"
    file_io.write_json(path, {"state": "running", "pid": 1, "host": "elsewhere"})
    assert read_state(path)["state"] == "running"
    assert read_state(tmp_path / "none") is None


def test_a_step_without_a_seed_must_not_draw(node, tmp_path):
    node["settings"] = {}
    with pytest.raises(RuntimeError, match="must not draw"):
        job.Job(node, tmp_path).seed("x")


def test_seeds_differ_by_seed_and_purpose(node, tmp_path):
    one = job.Job(node, tmp_path).seed("x")
    node["settings"] = {"seed": 4}
    assert one != job.Job(node, tmp_path).seed("x")
    assert 0 <= one < 2**63


def test_another_version_than_the_pinned_one_stops_the_step():
    preconditions.check_pins({"pyarrow": metadata.version("pyarrow")})
    with pytest.raises(PrunegridError, match=r"pyarrow .*pinned: 0\.0.*make env"):
        preconditions.check_pins({"pyarrow": "0.0"})
    with pytest.raises(PrunegridError, match="not installed"):
        preconditions.check_pins({"no-such-package": "1"})


def test_tokens_never_reach_a_log_or_a_reason(tmp_path, stage, node):
    secret = "hf_abcdefghijklmnop"

    def run(*arguments):
        logging.getLogger("x").info("Authorization: Bearer %s", secret)
        raise ValueError(f"no answer from https://me:pass@hub.example/{secret}")

    stage.run = run
    with pytest.raises(SystemExit):
        job.run_step(node, tmp_path / "log")
    for text in ((tmp_path / "log").read_text(), (tmp_path / "status.json").read_text()):
        assert "hub.example" in text
        assert secret not in text and "me:pass" not in text
