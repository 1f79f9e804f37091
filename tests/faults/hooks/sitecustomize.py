"""Puts a fault into the processes of a run, at a moment that the environment names.

Python imports this module by itself where its folder is on PYTHONPATH. What happens in a process
is seen by an audit hook, so that the library under test needs no hooks of its own.

PRUNEGRID_FAULT is JSON:
    event    an audit event: `open`, `os.rename`, `shutil.rmtree`
    path     a regular expression of the path that is opened, renamed to, or removed
    count    how many such events are let pass first
    victim   `job` (this process), `run` (Snakemake alone), `both` (the whole session)
    signal   its number
    mark     a file that is made when the fault strikes: it strikes once
PRUNEGRID_CLOCK is JSON: a file, and the seconds by which clocks are off once that file exists.
"""

import json
import os
import re
import sys
import time


def _strike(fault: dict) -> None:
    try:
        os.close(os.open(fault["mark"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    leader = os.getsid(0)  # Snakemake: it is started in a session of its own
    if fault["victim"] == "both":
        os.killpg(leader, fault["signal"])
        return
    os.kill(os.getpid() if fault["victim"] == "job" else leader, fault["signal"])


def _watch(fault: dict) -> None:
    state = {"left": fault["count"], "busy": False}
    pattern = re.compile(fault["path"])

    def hook(event: str, arguments: tuple) -> None:
        if event != fault["event"] or state["busy"]:
            return
        path = arguments[1 if event == "os.rename" else 0]
        if not isinstance(path, (str, os.PathLike)) or not pattern.search(os.fspath(path)):
            return
        state["left"] -= 1
        if state["left"] < 0:
            state["busy"] = True
            _strike(fault)

    sys.addaudithook(hook)


def _shift(clock: dict) -> None:
    real, real_ns = time.time, time.time_ns

    def off() -> float:
        return clock["seconds"] if os.path.exists(clock["file"]) else 0

    time.time = lambda: real() + off()
    time.time_ns = lambda: real_ns() + int(off() * 1e9)


if "PRUNEGRID_FAULT" in os.environ:
    _watch(json.loads(os.environ["PRUNEGRID_FAULT"]))
if "PRUNEGRID_CLOCK" in os.environ:
    _shift(json.loads(os.environ["PRUNEGRID_CLOCK"]))
