"""A full disk and a read-only one: a clear word, nothing half, and the same command afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.disturbed import (
    STUDY,
    TARGET,
    fresh,
    require_no_wrong_row,
    require_recovery,
    unless,
    whole,
)


@contextlib.contextmanager
def mounted(*arguments: str, at: Path) -> Iterator[None]:
    """Mount something for a while; where that is not possible, the test cannot be run."""
    unless(os.geteuid() == 0 and shutil.which("mount") is not None, "mounting needs root")
    done = subprocess.run(["mount", *arguments, str(at)], capture_output=True, text=True)
    unless(done.returncode == 0, f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def used(folder: Path) -> int:
    """Return the bytes that a folder's files take on a disk of pages."""
    return sum(-(-p.stat().st_size // 4096) * 4096 for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("share", [0.35, 0.8])
def test_a_full_disk_is_told_and_the_run_goes_on_with_more_space(calm, tmp_path, share):
    run = fresh(tmp_path / "run")
    results = run.folder / "results"
    results.mkdir()
    size = int(used(calm.folder / "results") * share)
    with mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs", at=results):
        done = run.snakemake(TARGET)
        assert done.returncode != 0
        assert "no space left" in done.stdout.lower() or "are free; expected" in done.stdout
        require_no_wrong_row(run, calm)
        assert not list(results.glob("artifacts/*/.*.tmp"))
        before = whole(run)
        subprocess.run(["mount", "-o", "remount,size=1g", str(results)], check=True)
        require_recovery(run, calm, before)


def test_a_read_only_folder_is_told_at_once(calm, tmp_path):
    run = calm.copy(tmp_path / "run")
    results, before = run.folder / "results", whole(run)
    shutil.rmtree(results / "artifacts/scores")
    with mounted("--bind", str(results), at=results):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(results)], check=True)
        done = run.snakemake(TARGET)
        assert done.returncode != 0 and "Traceback" not in done.stdout
        assert "Write-protected output files" in done.stdout
        assert f"results/{STUDY}.parquet" in done.stdout
        # What is there can be read, and what is missing can be asked.
        told = run.prunegrid("status", STUDY, "--configfile", "config.yaml")
        assert "missing" in told.stdout and "Traceback" not in told.stderr
    (scores,) = {*before} - {*whole(run)}
    del before[scores]
    require_recovery(run, calm, before)
