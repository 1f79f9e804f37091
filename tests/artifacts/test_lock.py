"""One maker at a time for an artifact."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time

import pytest

from prunegrid.artifacts import lock
from prunegrid.artifacts.lock import if_no_maker, only_maker
from prunegrid.common.source_code import LIBRARY


def test_a_maker_alone_waits_for_nobody_and_leaves_nothing(tmp_path):
    path = tmp_path / "scratch/x.lock"
    with only_maker(path, "x") as waited:
        assert not waited and path.exists()
    with pytest.raises(RuntimeError), only_maker(path, "x"):
        raise RuntimeError
    assert not path.exists()


def test_many_makers_take_turns(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(lock.log, "info", lambda form, label: one_waits.set())
    inside, most, turns, one_waits = [], [], [], threading.Event()

    def make():
        with only_maker(tmp_path / "x.lock", "x") as waited:
            inside.append(1)
            most.append(len(inside))
            assert one_waits.wait(900)
            time.sleep(0.005)
            inside.pop()
            turns.append(waited)

    threads = [threading.Thread(target=make) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(900)
    # One that comes when all others are through has not waited, as the first has not.
    assert most == [1] * 12 and turns.count(False) >= 1 and True in turns
    assert not (tmp_path / "x.lock").exists()


def test_a_killed_maker_frees_its_artifact(tmp_path):
    path = tmp_path / "x.lock"
    program = (
        f"import sys; sys.path.insert(0, {str(LIBRARY)!r})\n"
        "from pathlib import Path\nfrom prunegrid.artifacts.lock import only_maker\n"
        f"with only_maker(Path({str(path)!r}), 'x'):\n    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", program], **pipes)
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    with only_maker(path, "x") as waited:
        assert not waited


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_the_job_goes_on(tmp_path, monkeypatch, caplog, number):
    def none(handle, operation):
        raise OSError(number, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with only_maker(tmp_path / "x.lock", "x") as waited:
        assert not waited
    assert "cannot be locked" in caplog.text and not (tmp_path / "x.lock").exists()


def test_a_folder_that_cannot_be_written_is_no_lack_of_locks(tmp_path, caplog):
    (tmp_path / "file").touch()
    with pytest.raises(OSError), only_maker(tmp_path / "file/x.lock", "x"):
        pass
    assert caplog.text == ""


def test_a_file_that_its_last_holder_removed_is_not_taken_for_held(tmp_path, monkeypatch):
    """Its name is free, or another job's by now: who has locked the old one looks again."""
    path, real, raced, kept = tmp_path / "x.lock", fcntl.flock, [], []

    def flock(handle, operation):
        if not raced:
            raced.append(os.fstat(handle).st_ino)
            kept.append(os.dup(handle))  # so that the next file has another number
            path.unlink()
        return real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with only_maker(path, "x"):
        assert path.stat().st_ino not in raced
        with if_no_maker(path) as free:
            assert not free
    os.close(kept[0])
