"""The lines that a run prints with `--logger prunegrid`: steps, seconds, the time left."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from prunegrid.common.logs import QUIET
from snakemake_logger_plugin_prunegrid import LogHandler, Progress, duration


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_snakemake_finds_the_plugin():
    assert LoggerPluginRegistry().is_installed("prunegrid")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7.6, "8 s"), (60, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_are_written_as_people_do(seconds, text):
    assert duration(seconds) == text


def test_the_time_left_is_what_steps_alike_took_over_how_many_run_together():
    clock = Clock()
    progress = Progress(clock)
    progress.plan(4)
    progress.expect({key: ("prune", 5.0) for key in "abcd"})
    for job, key in ((1, "a"), (2, "b")):
        progress.start(job, "prune", f"prune {job}", key)
    clock.now = 10.0
    first = progress.finish(1)
    assert first.startswith("[1/4]") and "10 s" in first and "prune 1" in first
    progress.finish(2)
    assert progress.left() == pytest.approx(10.0)  # two steps of 10 s, two at a time
    progress.start(3, "prune", "prune 3", "c")
    clock.now = 14.0
    assert progress.left() == pytest.approx((6 + 10) / (24 / 14))
    clock.now = 20.0
    progress.finish(3)
    progress.start(4, "prune", "prune 4", "d")
    clock.now = 30.0
    assert progress.finish(4).endswith("(done)")
    assert progress.finish(99) is None


def test_a_step_that_is_tried_again_is_counted_once():
    progress = Progress(Clock())
    progress.plan(2)
    progress.expect({"a": ("prune", 5.0), "b": ("prune", 5.0)})
    progress.start(1, "prune", "one", "a")
    progress.start(1, "prune", "one", "a")
    assert list(progress.waiting) == ["b"] and progress.left() == pytest.approx(10)


def test_the_time_left_follows_the_rows_of_data_that_were_read():
    clock = Clock()
    progress = Progress(clock)
    progress.plan(3)
    steps = {"data": ("download_data", 1.0), "a": ("generate", 900.0), "b": ("generate", 900.0)}
    progress.expect(steps)
    progress.revise({"data"}, lambda: {"data": 1.0, "a": 40.0, "b": 50.0})
    progress.start(1, "generate", "a", "a")
    clock.now = 900.0
    progress.finish(1)
    assert progress.waiting == {"data": 1.0, "b": 900.0}  # it told nothing new
    progress.start(2, "download_data", "data", "data")
    progress.finish(2)
    assert progress.waiting == {"b": 50.0}


def test_the_plans_seconds_are_corrected_by_what_was_seen_of_a_rule_and_else_of_all():
    clock = Clock()
    progress = Progress(clock)
    progress.plan(4)
    seconds = {"a": ("prune", 10.0), "b": ("prune", 40.0), "c": ("tasks", 100.0)}
    progress.expect(seconds)
    assert progress.left() == 160.0  # the table's step is not among them
    progress.start(1, "prune", "a", "a")
    clock.now = 30.0
    progress.finish(1)
    assert progress.left() == pytest.approx(3 * 40 + 3 * 100 + 10)
    progress.start(2, "tasks", "c", "c")
    clock.now = 80.0
    progress.finish(2)
    assert progress.left() == pytest.approx(3 * 40 + 10)


@pytest.fixture
def handler(monkeypatch):
    monkeypatch.setenv(QUIET, "")  # what the handler sets is undone
    return LogHandler(SimpleNamespace(), None)


def record(event=None, level=logging.INFO, msg=None, **facts):
    found = logging.LogRecord("snakemake", level, "", 0, msg, None, None)
    found.__dict__.update({"event": event, **facts})
    return found


def test_a_run_is_a_line_a_step_and_its_warnings(handler, capsys):
    handler.emit(record(LogEvent.RUN_INFO, stats={"prune": 1, "total": 1}))
    handler.emit(record(LogEvent.RESOURCES_INFO, msg="Provided cores: 2"))
    handler.emit(record(LogEvent.JOB_INFO, jobid=3, rule_name="prune", rule_msg="prune: m > w"))
    handler.emit(record(LogEvent.PROGRESS, done=0, total=1))
    handler.emit(record(LogEvent.JOB_FINISHED, job_id=3))
    handler.emit(record(level=logging.WARNING, msg="watch out"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "1 step to do" and len(lines) == 3
    assert "[1/1]" in lines[1] and "prune: m > w" in lines[1] and lines[2] == "watch out"
    assert os.environ[QUIET] == "1"


def test_a_failed_step_says_why_and_where_its_log_is(handler, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/status").mkdir(parents=True)
    (tmp_path / "results/status/predictions-abc.json").write_text(
        json.dumps({"reason": "no disk", "label": "m > x"})
    )
    log = "results/logs/generate/abc.log"
    handler.emit(record(LogEvent.JOB_ERROR, logging.ERROR, rule_name="generate", log=[log]))
    (line,) = capsys.readouterr().err.splitlines()
    assert "m > x: no disk" in line and log in line


def test_a_quiet_job_writes_all_to_its_log(tmp_path):
    """What libraries print by themselves goes there too."""
    log = tmp_path / "job.log"
    code = (
        "import logging, os, sys; from prunegrid.common.logs import configure_logging;"
        "configure_logging(sys.argv[1]); logging.getLogger('x').info('by the log');"
        "os.write(2, b'by a library\\n'); print('by print')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(log)],
        env={**os.environ, QUIET: "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stdout and not done.stderr
    assert all(said in log.read_text() for said in ("by the log", "by a library", "by print"))


def test_a_failed_step_has_one_line_and_the_plan_says_how_long_all_will_take(handler, capsys):
    handler.emit(record(LogEvent.RUN_INFO, stats={"prune": 2, "total": 2}))
    steps = {"a": ("prune", 60.0), "b": ("prune", 60.0)}
    about = "about 1 min, a first guess"
    facts = {"expected": steps, "beside": 2, "about": about}
    facts |= {"revised_after": {"a"}, "revised": lambda: {"a": 60.0, "b": 60.0}}
    handler.emit(record(msg="2 jobs at a time", **facts))
    handler.emit(record(level=logging.ERROR, msg="RuleException:\nCalledProcessError in file"))
    handler.emit(record(level=logging.ERROR, msg="WorkflowError:\nAt least one job did not end"))
    lines = capsys.readouterr().err.splitlines()
    told = f"2 jobs at a time; {about}: the time left is measured as it runs"
    assert lines == ["2 steps to do", told]


def test_at_first_steps_are_taken_to_run_beside_as_the_cores_allow():
    clock = Clock()
    progress = Progress(clock)
    progress.plan(4)
    progress.expect({key: ("prune", 100.0) for key in "abcd"}, cores=2)
    assert progress.left() == pytest.approx(200)
    progress.start(1, "prune", "a", "a")  # alone
    clock.now = 100.0
    progress.finish(1)
    assert progress.left() == pytest.approx(300 / ((100 + 120) / 160))


@pytest.mark.parametrize("state", ["interrupted", "failed"])
def test_an_interrupted_step_is_not_a_failed_one(handler, capsys, tmp_path, monkeypatch, state):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/status").mkdir(parents=True)
    told = {"state": state, "reason": "told", "label": "m > x"}
    (tmp_path / "results/status/prune-abc.json").write_text(json.dumps(told))
    log = "results/logs/prune/abc.log"
    handler.emit(record(LogEvent.JOB_ERROR, logging.ERROR, rule_name="prune", log=[log]))
    (line,) = capsys.readouterr().err.splitlines()
    assert ("FAILED" in line) == (state == "failed")
    assert ("interrupted" in line) == (state == "interrupted") and "m > x" in line
