"""Two runs at once, clocks that jump, and what a run with a secret has written."""

from __future__ import annotations

import json
import os
import time

from tests.helpers.disturbed import (
    HOOKS,
    SECRET,
    TARGET,
    ended,
    fresh,
    quiet,
    require_calm,
    require_no_wrong_row,
    require_recovery,
    start,
    whole,
)


def test_two_runs_at_once_make_no_wrong_row(calm, tmp_path):
    """Started together, whichever of them Snakemake lets go on."""
    run = fresh(tmp_path / "run")
    for process in [start(run), start(run)]:
        ended(process)
    quiet(run)
    assert whole(run), (run.folder / "run.out").read_text()[-6000:]
    require_no_wrong_row(run, calm)
    require_recovery(run, calm, whole(run))


def test_a_run_beside_a_live_one_goes_on_and_makes_nothing_twice(calm, tmp_path):
    """The second is started once the first has made something; nobody repairs beside them."""
    run = fresh(tmp_path / "run")
    first = start(run)
    while first.poll() is None and not whole(run):
        time.sleep(0.02)
    before = {key: whole(run)[key] for key in whole(run)}
    assert "a run is under way" in run.prunegrid("repair").stderr
    done = run.snakemake(TARGET)
    assert ended(first) == done.returncode == 0, done.stdout[-6000:]
    now = whole(run)
    assert [key for key in before if now.get(key) != before[key]] == []
    require_calm(run, calm, now)


def test_clocks_that_jump_change_nothing(calm, tmp_path):
    """Files from tomorrow and from 1980; then a clock that goes back a day in the middle of it."""
    run = calm.copy(tmp_path / "run")
    for when in (time.time() + 86400, 3.2e8):
        for number, path in enumerate(sorted(run.folder.rglob("*"))):
            os.utime(path, (when - number, when - number))
        assert run.plan(TARGET) == {}
    run = fresh(tmp_path / "fresh")
    library = run.environment()["PYTHONPATH"]
    told = {"file": str(run.folder / "results/status"), "seconds": -86400}
    clock = {"PYTHONPATH": f"{HOOKS}{os.pathsep}{library}", "PRUNEGRID_CLOCK": json.dumps(told)}
    done = run.snakemake(TARGET, **clock)
    assert done.returncode == 0, done.stdout[-6000:]
    require_calm(run, calm, whole(run))
    assert run.plan(TARGET) == {}


def test_a_secret_is_in_nothing_that_was_written(calm):
    """The undisturbed run has HF_TOKEN set."""
    looked = 0
    for path in calm.folder.rglob("*"):
        if path.is_file():
            looked += 1
            assert SECRET.encode() not in path.read_bytes(), path
            assert SECRET not in str(path)
    assert looked > 50
