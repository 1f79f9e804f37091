"""Fine-tuning in two processes: the same loss and zeros as in one, and an end whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.finetuning import processes
from prunegrid.finetuning.training.divergence import Diverged
from prunegrid.stages import finetune
from tests.helpers import tiny
from tests.helpers.tuning import weights

pytestmark = pytest.mark.model

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
    return record, file_io.read_json(out / "finetune.json"), out


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
    start, mine, theirs = weights(place / "parent"), weights(out), weights(there)
    assert all(torch.equal(weight == 0, theirs[name] == 0) for name, weight in mine.items())
    # Adam divides by the gradient's size: a weight whose gradient is rounding alone moves by a
    # whole step, either way. So all weights together are compared, by how far they moved.
    whole, parted, apart = (
        torch.cat([(one[name] - other[name]).flatten() for name in mine]).norm()
        for one, other in ((mine, start), (theirs, start), (mine, theirs))
    )
    assert apart < 1e-2 * min(whole, parted)


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
    real = processes.run_watched
    dying = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    monkeypatch.setattr(processes, "run_watched", lambda command, env: real(dying, env))
    with pytest.raises(PrunegridError, match=r"ended \(exit code -9\) without a word"):
        tune(place, "dead", processes=2)


def killed(place, ready, *arguments):
    """Start a tuning in two processes, kill its job once `ready`, and wait for its ranks to end."""
    script = (
        "import sys\nfrom pathlib import Path\nimport tests.finetuning.test_processes as here\n"
        f"here.tune(Path(sys.argv[1]), 'long', processes=2, every_s=0.0, {', '.join(arguments)})\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    job = subprocess.Popen([sys.executable, "-c", script, str(place)], env=environment)
    folder = place / "scratch-long/ranks"
    seen = wait_for(lambda: len(running(folder)) >= 3 and ready())
    job.send_signal(signal.SIGKILL)
    job.wait()
    return seen, wait_for(lambda: not running(folder))


def test_a_killed_job_takes_its_ranks_along_and_is_taken_up_again(place):
    """The run that goes on ends in the bytes of one that was never killed."""
    saved = place / "scratch-long/training/training.safetensors"
    assert killed(place, saved.exists, "epochs=12") == (True, True)
    terms = {"processes": 2, "epochs": 12, "every_s": 300.0}
    record, story, out = tune(place, "again", scratch=place / "scratch-long", **terms)
    assert record["train"]["resumed_at"]
    _, told, whole = tune(place, "whole", **terms)
    assert story == told
    mine, theirs = weights(out), weights(whole)
    assert all(torch.equal(weight, theirs[name]) for name, weight in mine.items())


RANK = """import os, sys, threading, time
from prunegrid.finetuning import processes
threading.Thread(target=processes.end_with, args=(int(sys.argv[1]), os.getppid())).start()
print("a rank", flush=True)
while True:
    time.sleep(0.1)
    open(sys.argv[2], "w").close()
"""
LAUNCHER = """import subprocess, sys
rank = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], start_new_session=True)
sys.exit(rank.wait())
"""


def test_a_job_that_is_told_to_end_waits_for_its_ranks(tmp_path, monkeypatch):
    """As torch does, the launcher gives each rank a session of its own."""

    class Told(BaseException):
        pass

    def told(form, line):
        raise Told

    out = tmp_path / "out"
    monkeypatch.setattr(processes.log, "info", told)
    command = [sys.executable, "-c", LAUNCHER, RANK, str(os.getpid()), str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with pytest.raises(Told):
        processes.run_watched(command, environment)
    assert not running(out)  # its rank has the file's name in its command line


def test_ranks_that_do_not_end_are_not_waited_for_without_end(monkeypatch, caplog):
    monkeypatch.setattr(processes, "END_SECONDS", 0.3)
    stays = (
        "import subprocess\n"
        "print(subprocess.Popen(['sleep', '3600'], start_new_session=True).pid, flush=True)"
    )
    told = []
    monkeypatch.setattr(processes.log, "info", lambda form, line: told.append(int(line)) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        processes.run_watched([sys.executable, "-c", stays], dict(os.environ))
    os.kill(told[0], signal.SIGKILL)  # an error unless it is still there
    assert "have not ended after" in caplog.text


def test_the_best_of_several_rates_is_that_of_one_process(place):
    terms = {"dev_split": "dev", "learning_rates": [1e-5, 3e-3, 1e9], "max_steps": 4}
    _, story, _ = tune(place, "one", **terms)
    _, told, _ = tune(place, "two", processes=2, **terms)
    assert story["learning_rate"] == told["learning_rate"] == 3e-3
    assert [t["diverged"] is None for t in told["tries"]] == [True, True, False]
    assert told["dev_loss"] == pytest.approx(story["dev_loss"], rel=1e-4)


@pytest.mark.parametrize(("visible", "told"), [(None, "1,3"), ("a,b,c,d", "b,d")])
def test_ranks_are_given_the_devices_that_the_job_holds(monkeypatch, visible, told):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    job = SimpleNamespace(device="cuda:1", devices=["cuda:1", "cuda:3"], threads=2)
    found = processes.environment_of(job)
    assert found["CUDA_VISIBLE_DEVICES"] == told and found["OMP_NUM_THREADS"] == "2"


def running(folder):
    """Return the processes (the launcher and its ranks) of a task, as Linux lists them."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if str(folder) in place.read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                found.append(place.parent.name)
    return found


def wait_for(condition, seconds=900):
    """Return whether a condition comes true; the time only keeps a test from hanging for ever."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return False
