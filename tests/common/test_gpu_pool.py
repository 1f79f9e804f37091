"""Device tokens: no two jobs hold the same one, and a dead holder frees it."""

import multiprocessing
import os
import signal
import time

import pytest

from prunegrid.common import gpu_pool
from prunegrid.common.errors import PrunegridError

# Seconds that only keep a test from hanging for ever.
FOR_EVER = 900


def hold(folder, names, log, wait):
    """Hold one of the devices until `wait` returns."""
    with gpu_pool.claim_tokens(names, folder) as (name,):
        with open(log, "a") as handle:
            handle.write(f"+{name}\n")
        wait()
        with open(log, "a") as handle:
            handle.write(f"-{name}\n")


def test_four_jobs_share_two_devices_and_never_one_at_once(tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    met = context.Barrier(2, timeout=FOR_EVER)  # passed by two that hold at once
    jobs = [
        context.Process(target=hold, args=(tmp_path / "locks", ["0", "1"], log, met.wait))
        for _ in range(4)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(FOR_EVER)
        assert job.exitcode == 0
    held, used = set(), []
    for line in log.read_text().split():
        if line[0] == "+":
            assert line[1:] not in held
            held.add(line[1:])
            used.append(line[1:])
        else:
            held.remove(line[1:])
    assert len(used) == 4 and set(used) == {"0", "1"}


def a_moment():
    """Wait so that others come meanwhile; nothing fails where they come later."""
    time.sleep(0.1)


def test_with_one_device_jobs_queue(tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    jobs = [
        context.Process(target=hold, args=(tmp_path / "locks", ["0"], log, a_moment))
        for _ in range(3)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(FOR_EVER)
        assert job.exitcode == 0
    assert log.read_text().split() == ["+0", "-0"] * 3


def test_users_share_the_tokens_of_a_machine(tmp_path):
    """All may lock what one has made, whatever its umask is, and nobody removes another's file."""
    folder, before = tmp_path / "locks", os.umask(0o077)
    try:
        with gpu_pool.claim_tokens(["0"], folder):
            pass
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert (folder / "0.lock").stat().st_mode & 0o777 == 0o666
    with gpu_pool.claim_tokens(["0"], folder) as found:
        assert found == ["0"]


def step(folder, log, devices_here, wait):
    """A job as `job.run_step` runs one, on a machine that has these devices."""
    from prunegrid.running import job

    gpu_pool.visible_gpus = lambda: devices_here
    os.environ["PRUNEGRID_DEVICES"] = str(folder)

    def make(node, held):
        with open(log, "a") as handle:
            handle.write(f"+{','.join(held)}\n")
        wait()
        with open(log, "a") as handle:
            handle.write(f"-{','.join(held)}\n")

    job.make_artifact = make
    place = f"{folder}/{os.getpid()}"
    node = {"status": f"{place}.json", "scratch": place, "device": "cuda", "label": "test"}
    job.run_step({**node, "settings": {}, "pins": {}, "path": place, "key": "0" * 16})


@pytest.mark.parametrize("there", [["a"], ["a", "b"]])
def test_jobs_of_a_box_without_a_scheduler(tmp_path, there):
    """As many at once as there are devices, none two on one."""
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    met = context.Barrier(len(there), timeout=FOR_EVER)
    jobs = [context.Process(target=step, args=(tmp_path, log, there, met.wait)) for _ in range(4)]
    for one in jobs:
        one.start()
    for one in jobs:
        one.join(FOR_EVER)
        assert one.exitcode == 0
    held, most = set(), 0
    for line in log.read_text().split():
        if line[0] == "+":
            assert line[1:] not in held
            held.add(line[1:])
            most = max(most, len(held))
        else:
            held.remove(line[1:])
    assert log.read_text().count("+") == 4 and most == len(there)


def test_a_killed_holder_frees_its_device(tmp_path):
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    never = context.Event()
    job = context.Process(target=hold, args=(tmp_path / "locks", ["0"], log, never.wait))
    job.start()
    while not log.exists():
        time.sleep(0.05)
    os.kill(job.pid, signal.SIGKILL)
    job.join()
    with gpu_pool.claim_tokens(["0"], tmp_path / "locks") as found:
        assert found == ["0"]


def test_cuda_where_there_is_none_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(gpu_pool, "visible_gpus", lambda: [])
    with (
        pytest.raises(PrunegridError, match="config.yaml: device.*set device: cpu"),
        gpu_pool.claim_devices("cuda"),
    ):
        pass


def test_jobs_take_the_index_among_the_visible_devices(monkeypatch, tmp_path):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(gpu_pool, "visible_gpus", lambda: ["5", "7"])
    monkeypatch.setenv("PRUNEGRID_DEVICES", str(tmp_path))
    with gpu_pool.claim_devices("cuda") as first, gpu_pool.claim_devices("cuda") as second:
        assert sorted(first + second) == ["cuda:0", "cuda:1"]
    with gpu_pool.claim_devices("cuda", 2) as both:
        assert both == ["cuda:0", "cuda:1"]
    with (
        pytest.raises(PrunegridError, match="sees 2 of the 3 CUDA devices.*fewer"),
        gpu_pool.claim_devices("cuda", 3),
    ):
        pass


@pytest.mark.parametrize("named", [None, "pool"])
def test_a_users_own_temporary_folder_is_no_pool_of_its_own(monkeypatch, tmp_path, named):
    monkeypatch.setattr(gpu_pool, "visible_gpus", lambda: ["5"])
    monkeypatch.setattr(gpu_pool, "POOL", str(tmp_path / "all"))
    monkeypatch.delenv("PRUNEGRID_DEVICES", raising=False)
    if named:
        monkeypatch.setenv("PRUNEGRID_DEVICES", str(tmp_path / named))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "mine"))
    with gpu_pool.claim_devices("cuda"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [named or "all"]


def hold_two(folder, log):
    for _ in range(5):
        with gpu_pool.claim_tokens(["0", "1", "2"], folder, 2) as names:
            with open(log, "a") as handle:
                handle.write(f"+{','.join(names)}\n")
            time.sleep(0.02)
            with open(log, "a") as handle:
                handle.write(f"-{','.join(names)}\n")


def test_jobs_that_need_two_of_three_take_turns(tmp_path):
    """Each holding one and waiting for another, they would wait for ever."""
    context, log = multiprocessing.get_context("spawn"), tmp_path / "log"
    jobs = [context.Process(target=hold_two, args=(tmp_path / "locks", log)) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(FOR_EVER)
        assert job.exitcode == 0
    held = set()
    for line in log.read_text().split():
        names = set(line[1:].split(","))
        assert len(names) == 2
        if line[0] == "+":
            assert not held & names
            held |= names
        else:
            held -= names
    assert log.read_text().count("+") == 15


def test_cpu_needs_no_token():
    with gpu_pool.claim_devices("cpu", 2) as found:
        assert found == ["cpu"]
