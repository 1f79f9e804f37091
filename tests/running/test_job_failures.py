"""Steps that fail: each leaves its reason and nothing else, and no secret in a log."""

import contextlib
import errno
import logging
import os
import shutil
import signal
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from prunegrid.artifacts import artifact_folder, preconditions
from prunegrid.artifacts.file_digests import source_digest
from prunegrid.artifacts.job_status import has_failed, mark_interrupted, read_state, was_interrupted
from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.running import job
from tests.helpers.jobs import make_parent


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
    source = {"kind": "local", "path": str(own)}
    source["digest"] = source_digest(source, is_model=False)
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
    status = tmp_path / "status.json"
    assert has_failed(status) and "told to stop" in read_state(status)["reason"]
    mark_interrupted([status])  # its whole run was told so
    assert was_interrupted(status) and not has_failed(status)


def test_ctrl_c_is_no_failure(tmp_path, stage, node):
    def run(*arguments):
        raise KeyboardInterrupt

    stage.run = run
    with pytest.raises(SystemExit):
        job.run_step(node, tmp_path / "log")
    status = Path(node["status"])
    assert was_interrupted(status) and not has_failed(status)
    assert "interrupted" in (tmp_path / "log").read_text()
    assert "ERROR" not in (tmp_path / "log").read_text()


def test_a_dead_job_does_not_count_as_running(tmp_path):
    import socket

    path = tmp_path / "s.json"
    file_io.write_json(path, {"state": "running", "pid": 2**22 + 1, "host": socket.gethostname()})
    assert read_state(path)["state"] == "failed"
    file_io.write_json(path, {"state": "running", "pid": 1, "host": "elsewhere"})
    assert read_state(path)["state"] == "running"
    assert read_state(tmp_path / "none") is None


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
