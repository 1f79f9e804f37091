"""Runs of the study of one cell that are disturbed, and what must hold after each disturbance."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas
import pytest

from tests.helpers import ROOT
from tests.helpers.runs import FOR_EVER, Run, lasting, running, wait_for

STUDY = "one"
TARGET = f"results/{STUDY}.parquet"
# HF_TOKEN of the undisturbed run.
SECRET = "hf_NoSuchTokenButOneOfThisForm42"
HOOKS = ROOT / "tests/faults/hooks"
STAGES = ("model", "data", "prune", "finetune", "predictions", "scores")
TABLES = ("", ".long", ".examples", ".controls", ".contrasts", ".pairs")


def unless(possible: bool, why: str) -> None:
    """Skip a test that cannot be run here, and say why; on CI that is a failure."""
    if not possible:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


def fresh(folder: Path) -> Run:
    """Return a run of the tiny config whose training saves its state after every step."""
    run = Run.fresh(folder)
    run.configure(lambda tree: tree.update(training={"checkpoint_every_s": 0}))
    return run


def start(run: Run, **environment: str) -> subprocess.Popen:
    """Start the study in a session of its own; its output goes to `run.out`."""
    with open(run.folder / "run.out", "w") as out:
        return subprocess.Popen(
            run.command(TARGET),
            cwd=run.folder,
            env=run.environment(**{"PRUNEGRID_WARM": ""} | environment),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def fault(run: Run, event: str, path: str, victim: str, count: int = 0, number: int = 9) -> dict:
    """Return the environment that puts a fault into a run (see `hooks/sitecustomize.py`)."""
    told = {"event": event, "path": path, "victim": victim, "count": count, "signal": number}
    library = run.environment()["PYTHONPATH"]
    return {
        "PYTHONPATH": f"{HOOKS}{os.pathsep}{library}",
        "PRUNEGRID_FAULT": json.dumps({**told, "mark": str(struck(run))}),
    }


def struck(run: Run) -> Path:
    """Return the file that is there once the fault has struck."""
    return run.folder / "it-struck"


def ended(process: subprocess.Popen) -> int:
    """Return a run's exit status after its end."""
    return process.wait(timeout=FOR_EVER)


def kill(run: Run, process: subprocess.Popen, victim: str) -> str:
    """Kill a job, Snakemake alone, or all of it; return which: without a job it is Snakemake."""
    pids = [pid for stage in STAGES if (pid := running(run, stage))]
    if victim == "job" and not pids:
        victim = "run"
    try:
        if victim == "both":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(pids[0] if victim == "job" else process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has ended meanwhile
        pass
    return victim


def whole(run: Run) -> dict[str, bytes]:
    """Return the manifest of every artifact that is there; made again, its times would differ."""
    return {
        path.parent.name: path.read_bytes()
        for path in run.folder.glob("results/artifacts/*/[!.]*/manifest.json")
    }


def tables(run: Run) -> Iterator[tuple[str, pandas.DataFrame]]:
    """Yield the study's tables that are there, without what is measured in seconds and bytes."""
    for name in TABLES:
        path = run.folder / f"results/{STUDY}{name}.parquet"
        if path.exists():
            yield name, lasting(pandas.read_parquet(path))


def require_no_wrong_row(run: Run, calm: Run) -> None:
    """Check that every row that is there and did not fail is one of the undisturbed run."""
    right = dict(tables(calm))
    for name, frame in tables(run):
        if "status" in frame:
            assert set(frame["status"]) <= {"ok", "failed", "missing"}
            assert frame.loc[frame["status"] != "ok", "reason"].notna().all()
            frame = frame[frame["status"] == "ok"]
        if len(frame):
            pandas.testing.assert_frame_equal(frame.reset_index(drop=True), right[name])


def require_recovery(run: Run, calm: Run, before: dict[str, bytes]) -> None:
    """Run the same command again, and compare with the undisturbed run.

    Args:
        before: what was whole; none of it may be made again.
    """
    done = run.snakemake(TARGET)
    assert done.returncode == 0, done.stdout[-6000:]
    require_calm(run, calm, before)


def require_calm(run: Run, calm: Run, before: dict[str, bytes]) -> None:
    """Check that the tables are the undisturbed ones, and that nothing else is left."""
    found, right = dict(tables(run)), dict(tables(calm))
    assert found.keys() == right.keys()
    for name, frame in found.items():
        pandas.testing.assert_frame_equal(frame, right[name])
    after = whole(run)
    assert after.keys() == whole(calm).keys()
    assert [key for key, manifest in before.items() if after[key] != manifest] == []
    left = [*run.folder.glob("results/artifacts/*/.*"), *run.folder.glob("results/.*.tmp")]
    left += [*run.folder.glob("results/status/*-*.json"), *run.folder.glob("results/scratch/*")]
    assert left == []


def quiet(run: Run) -> None:
    """Wait until no job of an earlier run is alive."""
    wait_for(lambda: not any(running(run, stage) for stage in STAGES))
