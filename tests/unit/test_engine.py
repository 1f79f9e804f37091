"""What is asked of Snakemake's own settings, on the classes that it runs with."""

import fcntl
import socket
from dataclasses import fields
from types import SimpleNamespace

import pytest
from snakemake.settings.types import MaxJobsPerTimespan, SchedulingSettings

from prunegrid.running import snakemake_bridge


@pytest.mark.parametrize(("local", "limited"), [(True, False), (False, True)])
def test_jobs_of_this_machine_start_without_a_limit_in_time(local, limited):
    """Those of a cluster keep it: a scheduler is not to be flooded."""
    assert "max_jobs_per_timespan" in {field.name for field in fields(SchedulingSettings)}
    settings = SchedulingSettings(max_jobs_per_timespan=MaxJobsPerTimespan(100))
    snakemake_bridge.without_timers(SimpleNamespace(local_exec=local, scheduling_settings=settings))
    assert (settings.max_jobs_per_timespan is not None) is limited


def test_where_jobs_are_only_shown_there_is_nothing_to_limit():
    snakemake_bridge.without_timers(SimpleNamespace(local_exec=True, scheduling_settings=None))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder in which a run of this machine was killed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(snakemake_bridge, "_held", [])
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    (tmp_path / ".snakemake/locks/0.output.lock").write_text("results/x.parquet")
    (tmp_path / snakemake_bridge.LIVE).write_text(socket.gethostname())
    yield tmp_path
    for handle in snakemake_bridge._held:
        handle.close()


def locks(folder):
    return list(folder.glob(".snakemake/locks/*"))


def run_of(dryrun=False, main=True):
    return SimpleNamespace(is_main_process=main, dryrun=dryrun)


def test_the_lock_of_a_dead_run_is_forgotten_and_the_live_one_is_marked(folder):
    snakemake_bridge.hold_folder(run_of())
    snakemake_bridge.hold_folder(run_of())
    assert locks(folder) == [] and len(snakemake_bridge._held) == 1
    with open(snakemake_bridge.LIVE, "a+") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("why", ["a live run", "another machine", "an older version"])
def test_a_lock_that_may_be_of_a_live_run_stays(folder, why):
    if why != "a live run":
        snakemake_bridge.LIVE.write_text("elsewhere" if why == "another machine" else "")
    with open(snakemake_bridge.LIVE, "a+") as other:
        if why == "a live run":
            fcntl.flock(other, fcntl.LOCK_SH)
        snakemake_bridge.hold_folder(run_of())
    assert len(locks(folder)) == 1
    told = {"a live run": socket.gethostname(), "another machine": "elsewhere"}
    assert snakemake_bridge.LIVE.read_text() == told.get(why, "")


def test_who_only_shows_what_would_run_holds_nothing(folder):
    snakemake_bridge.hold_folder(run_of(dryrun=True))
    snakemake_bridge.hold_folder(run_of(main=False))
    assert len(locks(folder)) == 1 and snakemake_bridge._held == []


def test_results_that_cannot_be_written_end_the_run_with_a_word(folder, monkeypatch):
    (folder / "results").mkdir()
    monkeypatch.setattr(snakemake_bridge.os, "access", lambda path, mode: False)
    with pytest.raises(SystemExit, match="cannot be written; mount or make it writable"):
        snakemake_bridge.hold_folder(run_of())


@pytest.mark.parametrize(
    "submitted,given,alone",
    [
        (False, None, "machine"),
        (True, None, "share"),
        (True, "3", "share"),
        (True, "4", "machine"),
        (True, "4(x2)", "share"),
    ],
)
def test_a_timing_says_what_it_has_for_itself(monkeypatch, submitted, given, alone):
    monkeypatch.setattr(snakemake_bridge.os, "cpu_count", lambda: 4)
    monkeypatch.delenv("SLURM_JOB_CPUS_PER_NODE", raising=False)
    if given:
        monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", given)
    assert snakemake_bridge.alone_on(SimpleNamespace(remote_exec=submitted)) == alone
