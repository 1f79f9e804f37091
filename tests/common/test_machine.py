"""What a process may use of its machine: affinity, control groups of both versions, the start."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from prunegrid.common import machine
from prunegrid.common.errors import PrunegridError
from prunegrid.running import snakemake_bridge

GB = 10**9


@pytest.fixture
def roomy(monkeypatch):
    """A machine with 8 cores and 100 GB."""
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    memory = SimpleNamespace(available=100 * GB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def told(tmp_path: Path, text: str) -> tuple[Path, Path]:
    (tmp_path / "cgroup").write_text(text)
    return tmp_path / "cgroup", tmp_path / "fs"


def test_without_groups_it_is_the_machine(roomy, tmp_path):
    places = (tmp_path / "none", tmp_path / "fs")
    assert machine.cores(*places) == 8
    assert machine.memory_mb(*places) == 80_000


def test_the_tightest_group_up_to_the_root_counts(roomy, tmp_path):
    places = told(tmp_path, "0::/slice/job\n")
    group(places[1] / "slice/job", cpu__max="max 100000", memory__max="max")
    assert (machine.cores(*places), machine.memory_mb(*places)) == (8, 80_000)
    group(places[1] / "slice", cpu__max="250000 100000", memory__max=str(10 * GB))
    group(places[1] / "slice", memory__current=str(4 * GB), memory__stat=f"inactive_file {GB}")
    assert machine.cores(*places) == 2
    assert machine.memory_mb(*places) == int(0.8 * 7000)  # 10 - (4 - 1 of files) GB
    group(places[1] / "slice/job", cpu__max="50000 100000")
    assert machine.cores(*places) == 1  # half a core is one


def test_groups_of_the_first_version(roomy, tmp_path):
    places = told(tmp_path, "5:memory:/a\n4:cpu:/a\n1:pids:/b\n")
    group(places[1] / "memory/a", memory__limit_in_bytes=str(2 * GB), memory__usage_in_bytes="0")
    group(places[1] / "cpu/a", cpu__cfs_quota_us="300000", cpu__cfs_period_us="100000")
    assert (machine.cores(*places), machine.memory_mb(*places)) == (3, 1600)
    group(places[1] / "cpu/a", cpu__cfs_quota_us="-1")
    assert machine.cores(*places) == 8


def run(cores: int, **resources: int) -> SimpleNamespace:
    found = {"_cores": SimpleNamespace(value=cores)}
    found |= {name: SimpleNamespace(value=value) for name, value in resources.items()}

    return SimpleNamespace(global_resources=found, remote_exec=False)


def test_a_run_says_what_its_jobs_may_use(monkeypatch):
    monkeypatch.setattr(machine, "memory_mb", lambda: 19_000)
    monkeypatch.setattr(machine, "cores", lambda: 2)
    limits = snakemake_bridge.limits
    assert limits(run(2)) == "2 jobs at a time, no limit of memory"
    assert limits(run(1, mem_mb=6000)) == "1 job at a time, 6 GB of memory"


def test_too_little_memory_for_any_job_is_told_with_both_numbers(monkeypatch):
    monkeypatch.setattr(machine, "memory_mb", lambda: 123)
    with pytest.raises(PrunegridError, match=f"123 MB.*{snakemake_bridge.SMALLEST_MB:,} MB"):
        snakemake_bridge.limits(run(2))


def test_more_cores_than_there_are_are_used_with_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(machine, "cores", lambda: 2)
    with caplog.at_level(logging.WARNING, logger=snakemake_bridge.logger.name):
        monkeypatch.setattr(snakemake_bridge, "logger", logging.getLogger("test"))
        assert snakemake_bridge.limits(run(64, mem_mb=6000)).startswith("64 jobs at a time")
    assert any("64 cores" in record.getMessage() for record in caplog.records)
