"""Fine-tuning in two processes: the same loss and zeros as in one, and an end whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import tiny
import torch
from test_finetune import weights

from prunegrid import artifacts, ranks
from prunegrid.errors import PrunegridError
from prunegrid.stages import finetune
from prunegrid.training import Diverged

# An odd number of micro-batches a step: one process has none of its own in the last pass.
TERMS = {"batch_size": 2, "accumulate": 3, "epochs": 2}


@pytest.fixture
def place(tmp_path):
    tiny.artifact(tmp_path / "parent", "llama", "2:4")
    tiny.held_out(tmp_path / "data")
    return tmp_path


def tune(place, name, strategy="full", scratch=None, every_s=None, **changes):
    """Return (record, story, folder) of one finetune step."""
    out, scratch = place / name, scratch or place / f"scratch-{name}"
    out.mkdir()
    scratch.mkdir(exist_ok=True)
    settings = tiny.finetune(strategy, **TERMS | changes)
    parents = {"weights": place / "parent", "data": place / "data"}
    job = tiny.job(scratch=scratch, every_s=every_s)
    record = finetune.run(settings, parents, out, job)
    tiny.finish(out, record["weights"])
    return record, artifacts.read_json(out / "finetune.json"), out


@pytest.mark.parametrize(
    ("strategy", "changes"),
    [("full", {"dev_split": "dev", "evaluate_every": 1}), ("lora", {})],
)
def test_two_processes_end_where_one_does(place, strategy, changes):
    record, story, out = tune(place, "one", strategy, **changes)
    other, told, there = tune(place, "two", strategy, processes=2, **changes)
    assert told["losses"] == pytest.approx(story["losses"], rel=1e-4)
    assert told["dev_losses"] == [
        [step, pytest.approx(loss, rel=1e-4)] for step, loss in story["dev_losses"]
    ]
    assert (told["tokens"], told["kept_step"]) == (story["tokens"], story["kept_step"])
    assert other["train"]["zeros_filled"] == 0 and other["weights"]["nm_valid"] is True
    mine, theirs = weights(out), weights(there)
    for name, weight in mine.items():
        assert torch.allclose(weight, theirs[name], atol=1e-4), name
        assert torch.equal(weight == 0, theirs[name] == 0), name


def test_two_processes_give_the_same_bytes_again(place):
    first, _, _ = tune(place, "first", processes=2)
    second, _, _ = tune(place, "second", processes=2)
    assert first["weights"]["sha256"] == second["weights"]["sha256"]


def test_a_rank_that_fails_is_the_jobs_failure(place):
    with pytest.raises(Diverged, match="training diverged at step") as raised:
        tune(place, "wild", processes=2, learning_rate=1e9, max_grad_norm=1e9, warmup_steps=0)
    assert raised.value.where == "test" and "learning_rate" in raised.value.remedy


def test_a_rank_that_dies_is_told(place, monkeypatch):
    """Its launcher ends the others; the job says what may have been."""
    real = ranks._watched
    dying = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    monkeypatch.setattr(ranks, "_watched", lambda command, env: real(dying, env))
    with pytest.raises(PrunegridError, match=r"ended \(exit code -9\) without a word"):
        tune(place, "dead", processes=2)


def test_ranks_end_when_their_job_is_killed(place):
    script = (
        "import sys\nfrom pathlib import Path\nimport test_ranks as here\n"
        "here.tune(Path(sys.argv[1]), 'long', processes=2, epochs=5000)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    job = subprocess.Popen([sys.executable, "-c", script, str(place)], env=environment)
    task = place / "scratch-long/ranks/task.json"
    started = wait_for(lambda: len(running(task.parent)) >= 3, 180)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert started
    assert wait_for(lambda: not running(task.parent), 30)


def running(folder):
    """Return the processes (the launcher and its ranks) of a task."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if str(folder) in line]


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return False
