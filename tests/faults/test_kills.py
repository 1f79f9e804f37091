"""SIGKILL and SIGTERM, at random moments and inside each write: nothing wrong, nothing twice."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time

import pytest
from disturbed import (
    STAGES,
    ended,
    fault,
    fresh,
    kill,
    quiet,
    require_calm,
    require_no_wrong_row,
    require_recovery,
    start,
    struck,
    whole,
)

MOMENTS = 5 if os.environ.get("CI") else 20
VICTIMS = ("job", "run", "both")
# An event inside each rule's write: the files are there, the manifest or the place is not.
WRITES = {
    **{f"{s}: manifest": ("open", rf"/{s}/\.\w+\.\d+\.tmp/\.manifest\.json") for s in STAGES},
    **{f"{s}: rename": ("os.rename", rf"artifacts/{s}/\w+$") for s in STAGES},
    "finetune: training": ("os.rename", r"/training/\w+\.safetensors$"),
    "finetune: after it": ("shutil.rmtree", r"scratch/finetune-\w+$"),
    "table: first": ("os.rename", r"results/one\.parquet$"),
    "table: half": ("os.rename", r"results/one\.examples\.parquet$"),
    "table: last": ("os.rename", r"results/one\.manifest\.json$"),
}
# On CI one write of each rule, and each kind of moment, by one victim or another.
CHOSEN = [
    *(f"{stage}: {('manifest', 'rename')[i % 2]}" for i, stage in enumerate(STAGES)),
    "finetune: training",
    "table: half",
]


def test_kills_at_random_moments_change_nothing(calm, tmp_path):
    """One folder, killed again and again; where it comes to its end, it is compared and cleared."""
    draw = random.Random(6)
    length = float((calm.folder.parent / "seconds").read_text())
    run, before, left = fresh(tmp_path / "run"), {}, MOMENTS
    while left:
        process = start(run)
        end = time.monotonic() + draw.uniform(0.05, 1) * length
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        if process.poll() is None:
            kill(run, process, VICTIMS[left % 3])
            ended(process)
            require_no_wrong_row(run, calm)
            before |= whole(run)
            left -= 1
        else:
            assert process.returncode == 0, (run.folder / "run.out").read_text()[-6000:]
            quiet(run)
            require_calm(run, calm, before)
            shutil.rmtree(run.folder)
            run, before = fresh(run.folder), {}
    require_recovery(run, calm, before)


@pytest.mark.parametrize("moment", CHOSEN if os.environ.get("CI") else list(WRITES))
def test_a_kill_inside_a_write_leaves_nothing_half(calm, tmp_path, moment):
    """What was being written is made again by the same command, and only that."""
    event, path = WRITES[moment]
    run = fresh(tmp_path / "run")
    victim = VICTIMS[list(WRITES).index(moment) % 3]
    count = 1 if moment == "finetune: training" else 0  # some steps are saved by then
    process = start(run, **fault(run, event, path, victim, count))
    status = ended(process)
    assert struck(run) and status != 0, (run.folder / "run.out").read_text()[-6000:]
    require_no_wrong_row(run, calm)
    quiet(run)
    require_recovery(run, calm, whole(run))


@pytest.mark.parametrize("victim", ["job", "run"])
def test_a_stop_that_asks_is_obeyed_and_said(calm, tmp_path, victim):
    """SIGTERM inside training: a scheduler's limit or cancel, or a shutdown."""
    run = fresh(tmp_path / "run")
    asked = fault(run, *WRITES["finetune: training"], victim, 0, signal.SIGTERM)
    status = ended(start(run, **asked))
    assert struck(run)
    require_no_wrong_row(run, calm)
    out = (run.folder / "run.out").read_text()
    if victim == "job":
        assert status != 0 and "told to stop (SIGTERM)" in out
    assert "Traceback" not in out
    quiet(run)
    require_recovery(run, calm, whole(run))
