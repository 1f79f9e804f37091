"""`prunegrid run`: other runs, Ctrl-C, what stands in place of lines, and the last lines."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pandas
import pytest
from rich.console import Console

from prunegrid.artifacts import lock
from prunegrid.commands import run, show, watch
from tests.helpers.runs import wait_for

HOLD = """
import fcntl, sys
handle = open(sys.argv[1], "w")
fcntl.flock(handle, fcntl.LOCK_SH)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder with results of a study of three models."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/status").mkdir(parents=True)
    same = {"model": "m", "dataset": "d", "seed": None, "status": "ok", "reason": None}
    same |= {"weight_precision": "float32", "sparsity_effective": 0.5, "finetune": "none"}
    rows = [same | {"prune": n, "artifact": f"results/artifacts/prune/{n}"} for n in "abc"]
    pandas.DataFrame(rows).to_parquet(tmp_path / "results/mine.parquet")
    return tmp_path


def script(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_run_waits_while_another_is_under_way(folder, capsys):
    assert not lock.is_live()
    lock.LIVE.parent.mkdir()
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock.LIVE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "held\n" and lock.is_live()
    done = []
    words = script("open('began', 'w').close()")
    waiting = threading.Thread(target=lambda: done.append(run.run_study("mine", words, "again")))
    waiting.start()
    wait_for(lambda: "waiting for its end" in capsys.readouterr().err)
    assert not Path("began").exists()
    other.communicate("")
    waiting.join()
    assert done == [0] and Path("began").exists() and not lock.is_live()


def test_the_end_names_the_models_the_time_and_the_next_command(folder, capsys):
    assert run.run_study("mine", script(""), "prunegrid run mine -c a.yaml") == 0
    text = capsys.readouterr().out
    assert "3 cells, 0 failed" in text and "results/artifacts/prune/b/" in text
    *_, took, last = text.splitlines()
    assert took.startswith("took ") and "prunegrid verify results/mine.parquet" in last
    assert "results/mine.parquet  (every column" in text


def rest() -> list[str]:
    """Return the lines below the study's table."""
    console = Console(file=io.StringIO(), width=200)
    show.print_rest("mine", Path("results"), console)
    return console.file.getvalue().splitlines()


def test_the_page_and_readable_links_to_models_are_named(folder):
    (folder / "results/models/mine").mkdir(parents=True)
    (folder / "results/mine.html").touch()
    *_, page, table, models = rest()
    assert "results/mine.html" in page and "results/mine.parquet" in table
    assert "results/models/mine/" in models and not any("artifacts" in line for line in rest())


def test_many_models_are_not_all_listed(folder):
    frame = pandas.read_parquet("results/mine.parquet")
    many = pandas.concat([frame.assign(artifact=frame["artifact"] + str(n)) for n in range(9)])
    many.to_parquet("results/mine.parquet")
    assert sum("the model" in line for line in rest()) == show.FOLDERS_SHOWN
    assert any("19 more" in line and "prunegrid show mine" in line for line in rest())


def test_disturbed_timings_name_the_command_that_takes_them_again(folder):
    frame = pandas.read_parquet("results/mine.parquet")
    frame.assign(speed_disturbed=["busy", None, "busy"]).to_parquet("results/mine.parquet")
    same = "prunegrid run mine -c a.yaml"
    text = "\n".join(run.ending("mine", Path("results"), "8 s", same, is_failed=False))
    assert "2 timings" in text and "prunegrid remeasure mine -c a.yaml" in text


def test_the_fastest_packed_cell_is_told(folder):
    frame = pandas.read_parquet("results/mine.parquet").head(1)
    speeds = {"decode_speed_vs_dense": 1.7, "speed_form": "packed float32, avx2"}
    speeds |= {f"decode_speed_vs_dense_{end}": 1.7 for end in ("low", "high")}
    frame = frame.assign(**speeds, resident_bytes=341e6, speed_disturbed=None)
    frame.to_parquet("results/mine.parquet")
    lines = [*run.ending("mine", Path("results"), "8 s", "prunegrid run mine", is_failed=False)]
    assert any("packed" in line and "1.70" in line and "341 MB" in line for line in lines)


def test_the_next_command_says_about_how_long_it_takes(folder):
    Path("scores").mkdir()
    Path("scores/manifest.json").write_text('{"seconds": 40.0}')
    texts = {"test": {"scores": {"path": "scores"}}}
    manifest = {"plan": {"baselines": [], "cells": [{"texts": texts}, {"texts": texts}]}}
    Path("results/mine.manifest.json").write_text(json.dumps(manifest))
    frame = pandas.read_parquet("results/mine.parquet")
    frame.assign(file_bytes=[1e9, 1e9, None]).to_parquet("results/mine.parquet")
    *_, last = run.ending("mine", Path("results"), "8 s", "prunegrid run mine", is_failed=False)
    assert "prunegrid verify" in last and "about 1 min 00 s" in last
    Path("scores/manifest.json").unlink()
    *_, last = run.ending("mine", Path("results"), "8 s", "prunegrid run mine", is_failed=False)
    assert "prunegrid verify" in last and "about" not in last


def test_in_a_pipe_each_step_is_a_line_and_snakemakes_first_line_is_left_out(folder):
    lines = ["Using workflow specific profile profiles/default", "2 steps to do", "[1/2] 3 s  x"]
    code = f"import sys; print(*{lines}, sep='\\n', file=sys.stderr)"
    console = Console(file=io.StringIO(), width=20)
    assert run.follow(script(code), console) == (0, False)
    assert console.file.getvalue().splitlines() == lines[1:]


def test_after_a_failure_the_same_command_stands_at_the_end(folder, capsys):
    failing = "import os; os.utime('results/mine.parquet', (1, 1)); raise SystemExit(3)"
    assert run.run_study("mine", script(failing), "prunegrid run mine") == 3
    last = capsys.readouterr().out.splitlines()[-1]
    assert "prunegrid status mine" in last and last.endswith("prunegrid run mine")
    assert run.run_study("none", script("raise SystemExit(3)"), "prunegrid run none") == 3
    assert "prunegrid run none" in capsys.readouterr().err


def test_a_run_that_wrote_no_table_does_not_print_an_older_one(folder, capsys):
    """As after a mistake in the config: the older table would look like a result."""
    assert run.run_study("mine", script("raise SystemExit(1)"), "prunegrid run mine") == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "No table was made" in printed.err


def test_ctrl_c_waits_for_the_jobs_and_says_how_to_go_on(folder, capsys):
    code = f"""
import os, signal, time
signal.signal(signal.SIGINT, lambda *_: None)
time.sleep(1)  # until the other process waits for this one
os.kill({os.getpid()}, signal.SIGINT)
time.sleep(0.5)
open('ended', 'w').close()
raise SystemExit(1)
"""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = run.run_study("mine", script(code), "prunegrid run mine -c a.yaml")
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == watch.INTERRUPTED and Path("ended").exists()
    assert "To go on: prunegrid run mine -c a.yaml" in capsys.readouterr().err


def test_on_a_terminal_steps_stand_in_one_line_and_faults_stay(folder, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    record = {"state": "running", "pid": os.getpid(), "host": socket.gethostname()}
    record |= {"label": "m > prune", "progress": {"unit": "block", "done": 3, "of": 30}}
    Path("results/status/prune-0.json").write_text(json.dumps(record))
    code = "import sys; print('[1/9] 3 s  x', 'FAILED  y: no disk', sep='\\n', file=sys.stderr)"
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    assert run.follow(script(code), console) == (0, False)
    text = console.file.getvalue()
    assert "FAILED  y: no disk\n" in text and "[1/9] 3 s  x" in text
    assert "now: m > prune: block 3 of 30" in text


def test_the_command_to_type_is_quoted_for_a_shell():
    text = run.again("mine", [Path("my file.yaml")], ["device=cuda"])
    assert text == "prunegrid run mine -c 'my file.yaml' --config device=cuda"
