"""What is asked of Snakemake's own settings, on the classes that it runs with."""

import fcntl
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.io import ancient
from snakemake.path_modifier import PathModifier

from prunegrid.artifacts import lock
from prunegrid.common.errors import PrunegridError
from prunegrid.running import snakemake_bridge


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lock, "HELD", [])
    (tmp_path / ".snakemake").mkdir()
    yield tmp_path
    for handle in lock.HELD:
        handle.close()


def test_a_run_is_marked_for_its_time(folder):
    for _ in range(2):
        snakemake_bridge.mark_run(SimpleNamespace(is_main_process=True))
    assert len(lock.HELD) == 1
    with open(lock.LIVE, "a+") as other:
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)  # another run may be beside it
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_job_marks_nothing(folder):
    snakemake_bridge.mark_run(SimpleNamespace(is_main_process=False))
    assert not lock.LIVE.exists() and lock.HELD == []


def test_results_that_cannot_be_written_end_the_run_with_a_word(folder, monkeypatch):
    (folder / "results").mkdir()
    monkeypatch.setattr(snakemake_bridge.os, "access", lambda path, mode: False)
    with pytest.raises(SystemExit, match="cannot be written; mount it or make it writable"):
        snakemake_bridge.start(SimpleNamespace(local_exec=True), None, Path("results"))


def test_snakemake_offers_no_way_to_choose_rerun_triggers_in_a_snakefile(tmp_path):
    """Where this fails, `keys_decide` can go from the inputs of a table to the Snakefile."""
    (tmp_path / "Snakefile").write_text(
        "print('settings:', workflow.dag_settings)\nrule all:\n    input: []\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "settings: None" in done.stdout, done.stdout + done.stderr


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


def test_configfile_twice_is_an_error_since_snakemake_drops_the_first(monkeypatch, tmp_path):
    run = SimpleNamespace(is_main_process=True, overwrite_configfiles=["b.yaml"])
    run.configfiles = ["b.yaml", "importer.yaml"]
    monkeypatch.setattr(sys, "argv", ["snakemake", "--configfile", "a.yaml", "b.yaml"])
    assert [str(path) for path in snakemake_bridge.laid_over(run, tmp_path)] == [
        "importer.yaml", "b.yaml"
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["snakemake", "--configfile", "a.yaml", "--configfile=b.yaml"])
    with pytest.raises(PrunegridError, match="twice"):
        snakemake_bridge.laid_over(run, tmp_path)


def test_neither_a_prefix_nor_a_storage_provider_moves_what_is_in_place():
    """A provider would be looked for in what is None here."""
    modifier = PathModifier(None, "sub", workflow=None)
    path = Path("results/artifacts/{stage}/{key}/manifest.json")
    assert modifier.replace_prefix(path.as_posix()) == f"sub/{path}"
    assert modifier.modify(ancient(snakemake_bridge.in_place(path))) == path.as_posix()


@pytest.mark.parametrize(
    "change",
    [
        {"default_storage_prefix": "/elsewhere"},
        {"retrieve_storage": True},
        {"overwrite_workdir": None},
        {"main_snakefile": "/elsewhere/Snakefile"},
    ],
)
def test_pods_that_would_work_in_another_folder_are_refused(folder, change):
    """Else each step's files would be lost with its pod."""
    facts = {
        "default_storage_prefix": str(folder),
        "retrieve_storage": False,
        "overwrite_workdir": str(folder),
        "main_snakefile": str(folder / "Snakefile"),
        "shared_fs_usage": frozenset(),
    }
    for where, said in ((facts, None), (facts | change, "profiles/kubernetes")):
        run = SimpleNamespace(storage_settings=SimpleNamespace(**where), **where)
        try:
            snakemake_bridge.require_one_folder(run)
        except PrunegridError as error:
            assert said in str(error) and str(folder) in str(error)
        else:
            assert said is None
