"""`prunegrid status`: steps done, what runs and how far it is, what failed, the time left."""

from __future__ import annotations

import io
import json
import os
import socket
from pathlib import Path

import pytest
from rich.console import Console

from prunegrid.commands import cli, cli_config, watch
from prunegrid.commands.progress import Running, Snapshot, Watch
from prunegrid.running import costs, history, outlook, resources
from prunegrid.tables import table_plan
from tests.helpers.runs import Run

NOW = 1000.0


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The graph of the tiny study in an empty folder."""
    run = Run.fresh(tmp_path / "run")
    monkeypatch.chdir(run.folder)
    return cli_config.graph([Path("config.yaml")], (), "one")


def look(study) -> tuple[Watch, Snapshot]:
    found = Watch(study, "one", Path("results"), clock=lambda: NOW)
    return found, found.snapshot()


def write(node, **state) -> None:
    """Write the status record of a node."""
    node.status.parent.mkdir(parents=True, exist_ok=True)
    node.status.write_text(json.dumps(state))


def alive(**facts) -> dict:
    """Return the record of a job that runs: this process."""
    return {"state": "running", "pid": os.getpid(), "host": socket.gethostname(), **facts}


def test_all_steps_are_counted_and_the_time_left_is_the_plans(study):
    watched, now = look(study)
    assert (now.done, now.steps) == (0, len(watched.nodes) + 1) and not now.is_done
    assert now.left == watched.expected.together()
    assert f"0 of 1 cells done, 0 of {now.steps} steps, about" in now.head()
    assert "of work left" in now.head()  # nothing runs


def test_a_finished_step_counts_and_what_needs_it_no_more_does_not(study):
    watched, before = look(study)
    tuned = next(node for node in watched.nodes if node.stage == "finetune")
    Path(tuned.manifest).parent.mkdir(parents=True)
    Path(tuned.manifest).write_text("{}")
    _, now = look(study)
    assert now.done > before.done and now.left < before.left


def test_the_table_is_a_step_as_it_is_in_a_run(study, monkeypatch):
    watched, _ = look(study)
    for node in watched.nodes:
        Path(node.manifest).parent.mkdir(parents=True)
        Path(node.manifest).write_text("{}")
    _, now = look(study)
    assert now.steps - now.done == 1 and not now.is_done and now.left is None
    monkeypatch.setattr(table_plan, "is_whole", lambda plan, results: True)
    assert look(study)[1].is_done


def test_what_runs_says_how_far_its_loop_is_and_how_long_it_takes_yet(study):
    watched, _ = look(study)
    first, second = watched.nodes[:2]
    loop = {"unit": "block", "done": 6, "of": 16, "first": 2, "seconds": 20.0}
    write(first, **alive(since=NOW - 70, label=first.label, progress=loop))
    write(second, **alive(since=NOW - 1, label=second.label))
    _, now = look(study)
    one, two = now.running
    assert (one.unit, one.done, one.of, one.seconds) == ("block", 6, 16, 70.0)
    assert one.left == pytest.approx(20 / 4 * 10)
    assert two.left == pytest.approx(watched.expected.seconds[second] - 1)
    text = "\n".join(now.lines())
    assert f"{first.label} (block 6 of 16, 1 min 10 s so far, about 50 s left)" in text
    left = {**watched.expected.seconds, first: one.left, second: two.left}
    assert now.left == outlook.together(left, watched.beside)


def test_a_step_that_takes_longer_than_steps_alike_says_nothing_of_its_end(study):
    watched, _ = look(study)
    node = watched.nodes[0]
    write(node, **alive(since=NOW - 10 * watched.expected.seconds[node] - 1))
    assert look(study)[1].running[0].left is None


def test_a_failed_step_says_why_and_where_its_log_is(study):
    node = look(study)[0].nodes[0]
    write(node, state="failed", reason="the disk is full")
    _, now = look(study)
    text = "\n".join(now.lines())
    assert "the disk is full" in text and f"log: results/logs/{node.stage}/{node.key}.log" in text
    assert node.label in text


def test_an_interrupted_step_is_missing_and_not_failed(study):
    node = look(study)[0].nodes[-1]
    write(node, state="interrupted", reason="Ctrl-C")
    _, now = look(study)
    text = "\n".join(now.lines())
    assert f"interrupted at {node.label}" in text and now.failed == []
    assert "0 failed, 1 missing" in text


def test_the_command_prints_cells_and_counts_and_names_the_nearest_study(study, capsys):
    assert cli.main(["status", "one", "-c", "config.yaml"]) == 0
    text = capsys.readouterr().out
    assert "one: 0 done, 0 running, 0 failed, 1 missing" in text
    assert cli.main(["status", "onne", "-c", "config.yaml"]) == 1
    assert "did you mean 'one'" in capsys.readouterr().err


def test_formulas_are_corrected_by_the_pace_of_finished_steps(study):
    todo = look(study)[0].nodes
    tuned = next(node for node in todo if node.stage == "finetune")
    step, is_known = resources.planned_step(tuned)
    slow = history.Finished("x", step, 3 * costs.seconds(step), 0, 0)
    assert is_known and history.Experience([slow]).pace == pytest.approx(3.0)
    assert history.Experience([]).pace == 1.0


def shot(done: int, *failed: str, running: str = "") -> Snapshot:
    """Return how far a study of two steps is."""
    now = [Running(running)] if running else []
    return Snapshot("s", [], [], 2, done, now, [(why, "log") for why in failed], 5.0)


def watched(shots, console, lives, pause=lambda seconds: None):
    """Return the exit status of a watch that sees snapshots, with a run live as told."""
    shots, lives = iter(shots), iter(lives)
    return watch.watch(lambda: next(shots), lambda: next(lives), console, pause)


def test_a_pipe_gets_a_line_for_each_change_and_the_end_decides_the_status():
    console = Console(file=io.StringIO(), width=100)
    shots = [shot(0, running="a"), shot(0, running="a"), shot(1, running="b"), shot(2)]
    assert watched(shots, console, [True, True, True, False]) == 0
    text = console.file.getvalue()
    assert text.count("0 of 2 steps") == 1 and text.count("steps") == 3 and "\x1b" not in text


def test_a_run_that_ends_before_all_is_done_gives_one():
    console = Console(file=io.StringIO(), width=100)
    assert watched([shot(1, running="a"), shot(1, "no disk")], console, [True, False]) == 1
    assert "no disk" in console.file.getvalue() and "No run is under way" in console.file.getvalue()


def test_ctrl_c_leaves_the_watch_with_its_own_status():
    def interrupt(seconds):
        raise KeyboardInterrupt

    console = Console(file=io.StringIO(), width=100)
    assert watched([shot(0)], console, [True], interrupt) == watch.INTERRUPTED


def test_a_terminal_without_a_cursor_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    assert watched([shot(0, running="a"), shot(2)], console, [True, False]) == 0
    assert "0 of 2 steps" in console.file.getvalue() and "\x1b[2K" not in console.file.getvalue()


def test_a_terminal_is_drawn_in_place(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    assert watched([shot(0, running="a"), shot(2)], console, [True, False]) == 0
    assert "\x1b[2K" in console.file.getvalue()  # the line before is erased
