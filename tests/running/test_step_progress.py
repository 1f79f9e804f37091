"""Progress bars of a job tell how far they are, also where none is drawn."""

from __future__ import annotations

import itertools
import os
import socket

import pytest
import tqdm
import tqdm.auto

from prunegrid.artifacts.job_status import read_state
from prunegrid.running import job, step_progress


@pytest.fixture
def told(monkeypatch):
    """What bars tell; each reading of the clock is a second later."""
    for module in (tqdm, tqdm.auto):
        monkeypatch.setattr(module, "tqdm", module.tqdm)
    found, seconds = [], itertools.count()
    step_progress.report(found.append, lambda: float(next(seconds)))
    return found


def test_a_loop_tells_each_part_and_a_loop_within_it_nothing(told):
    for _ in tqdm.auto.tqdm(["a", "b", "c"], disable=True, unit="block"):
        list(tqdm.tqdm(range(2), disable=True, unit="sample"))
    assert [(one["unit"], one["done"], one["of"]) for one in told] == [
        ("block", 1, 3),
        ("block", 2, 3),
        ("block", 3, 3),
    ]


def test_a_bar_that_is_updated_begins_where_it_is_told_to(told):
    with tqdm.auto.tqdm(total=8, initial=4, disable=True, unit="step") as bar:
        bar.update()
        bar.update(2)
    assert [(one["first"], one["done"], one["of"]) for one in told] == [(4, 5, 8), (4, 7, 8)]
    list(tqdm.tqdm(range(1), disable=True))
    assert told[-1]["of"] == 1  # the first bar has left its place


def test_a_loop_that_fails_leaves_its_place(told):
    with pytest.raises(ZeroDivisionError):
        for _ in tqdm.auto.tqdm(range(2), disable=True):
            raise ZeroDivisionError
    list(tqdm.auto.tqdm(range(3), disable=True))
    assert told[-1]["of"] == 3


def test_a_loop_of_unknown_length_tells_nothing(told):
    list(tqdm.auto.tqdm(iter(range(3)), disable=True))
    assert told == []


def test_a_job_tells_it_in_its_status_record(tmp_path, told):
    status = tmp_path / "status.json"
    running = {"state": "running", "pid": os.getpid(), "host": socket.gethostname()}
    job.report_progress(status, running | {"label": "m > prune"})
    list(tqdm.auto.tqdm(range(1), disable=True, unit="block"))
    state = read_state(status)
    assert state["label"] == "m > prune" and state["progress"]["unit"] == "block"
    assert (state["progress"]["done"], state["progress"]["of"]) == (1, 1)


def test_a_fast_loop_does_not_write_for_every_part(monkeypatch):
    for module in (tqdm, tqdm.auto):
        monkeypatch.setattr(module, "tqdm", module.tqdm)
    found = []
    step_progress.report(found.append, lambda: 7.0)
    list(tqdm.auto.tqdm(range(100), disable=True))
    assert len(found) == 1
