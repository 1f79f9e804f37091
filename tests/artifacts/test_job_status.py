"""Records of failed and running steps."""

import os
import socket

import pytest

from prunegrid.artifacts.job_status import forget_failures, has_failed, read_state, with_label
from prunegrid.common import file_io


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("no space left", "data d: no space left"),
        ("data d: no space left", "data d: no space left"),
        ("data d (local:/x): no rows", "data d (local:/x): no rows"),
        ("data d2: no rows", "data d: data d2: no rows"),
        ("data d train: no rows", "data d: data d train: no rows"),
    ],
)
def test_a_label_stands_before_a_reason_once(reason, told):
    assert with_label("data d", reason) == told


def test_a_new_run_forgets_failures_and_nothing_else(tmp_path):
    failed, running, gone = (tmp_path / f"{name}.json" for name in ("failed", "running", "gone"))
    file_io.write_json(failed, {"state": "failed", "reason": "why"})
    alive = {"state": "running", "pid": os.getpid(), "host": socket.gethostname()}
    file_io.write_json(running, alive)
    assert has_failed(failed)
    stopped = tmp_path / "stopped.json"
    file_io.write_json(stopped, {"state": "interrupted", "reason": "Ctrl-C"})
    forget_failures([failed, str(running), gone, stopped])
    assert not stopped.exists()
    assert read_state(failed) is None and not failed.exists()
    assert read_state(running)["state"] == "running"
