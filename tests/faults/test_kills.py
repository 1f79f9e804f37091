"""SIGKILL and SIGTERM, at random moments and inside each write: nothing wrong, nothing twice."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from dataclasses import dataclass

from tests.helpers.disturbed import (
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

CI = bool(os.environ.get("CI"))
MOMENTS = 5 if CI else 20
VICTIMS = ("job", "run", "both")


@dataclass(frozen=True)
class Moment:
    """An event of one stage, and who is stopped then.

    Attributes:
        stage: whose artifact must not be there yet.
        event, path: see `hooks/sitecustomize.py`.
        victim: the job, Snakemake alone, or both.
        number: the signal.
        always: on CI too.
    """

    stage: str
    event: str
    path: str
    victim: str
    number: int = signal.SIGKILL
    always: bool = True


def inside(stage: str, first: str, second: str, always: int) -> list[Moment]:
    """Return two moments of a step's write: its files are there, the manifest or the place not."""
    opened = ("open", rf"/{stage}/\.\w+\.\d+\.\w+\.tmp/\.manifest\.json")
    renamed = ("os.rename", rf"artifacts/{stage}/\w+$")
    return [
        Moment(stage, *opened, first, always=always == 0),
        Moment(stage, *renamed, second, always=always == 1),
    ]


TRAINING = ("finetune", "os.rename", r"/training/\w+\.safetensors$")
IN_ORDER = [
    *inside("model", "both", "job", 0),
    *inside("data", "job", "both", 1),
    *inside("prune", "run", "job", 0),
    Moment(*TRAINING, "job"),
    Moment(*TRAINING, "both", always=False),
    Moment(*TRAINING, "job", signal.SIGTERM),
    Moment(*TRAINING, "run", signal.SIGTERM),
    *inside("finetune", "both", "run", 1),
    Moment("finetune", "shutil.rmtree", r"scratch/finetune-\w+$", "job", always=False),
    *inside("predictions", "job", "run", 0),
    *inside("scores", "run", "both", 1),
    Moment("", "os.rename", r"results/one\.parquet$", "job", always=False),
    Moment("", "os.rename", r"results/one\.examples\.parquet$", "both"),
    Moment("", "os.rename", r"results/one\.manifest\.json$", "run", always=False),
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


def test_kills_inside_each_write_and_inside_training_leave_nothing_half(calm, tmp_path):
    """One folder, whose every step is stopped inside its write; the same command goes on."""
    assert {moment.stage for moment in IN_ORDER if moment.always} == {*STAGES, ""}
    run = fresh(tmp_path / "run")
    before: dict[str, bytes] = {}
    for moment in (m for m in IN_ORDER if m.always or not CI):
        for folder in run.folder.glob(f"results/artifacts/{moment.stage or 'none'}/[!.]*"):
            before.pop(folder.name, None)  # another job has made it meanwhile
            shutil.rmtree(folder)
        if not moment.stage:  # a run whose table's job was killed has written the table at its end
            for path in run.folder.glob("results/one.*"):
                path.unlink()
        struck(run).unlink(missing_ok=True)
        asked = fault(run, moment.event, moment.path, moment.victim, 0, moment.number)
        status = ended(start(run, **asked))
        out = (run.folder / "run.out").read_text()
        assert struck(run).exists(), (moment, out[-6000:])
        quiet(run)
        require_no_wrong_row(run, calm)
        if moment.number == signal.SIGTERM:
            assert "Traceback" not in out, out[-6000:]
            assert moment.victim == "run" or "ERROR prunegrid: the job was told to stop" in out
        assert status != 0, (moment, out[-6000:])
        now = whole(run)
        assert [key for key in before if now.get(key) != before[key]] == [], moment
        before = now
    require_recovery(run, calm, before)
