"""A step that runs as several processes of one machine: started, watched, ended together.

The step's job starts torch's launcher, which starts the processes (ranks). Each runs the stage; the
first of them writes. What it records, or why it failed, comes back to the job as JSON. Ranks end
when their job or their launcher does, however it ends, and a job that ends waits for them: until
then they write, and hold its devices.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prunegrid.common import file_io
from prunegrid.common.determinism import settle_torch
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.common.gc_pause import importing
from prunegrid.common.source_code import LIBRARY

log = logging.getLogger(__name__)
WATCH_SECONDS = 1.0
# Within which ranks whose launcher is gone are to end: they look once in WATCH_SECONDS.
END_SECONDS = 20.0


def launch(stage: str, settings: dict, parents: dict[str, Path], out: Path, job: Any) -> dict:
    """Return the record of a stage that `settings["processes"]` ranks have made together.

    Args:
        stage, settings, parents, out, job: as for the stage's `run`; on CUDA `job.devices` names a
            device for each rank.

    Raises:
        PrunegridError: what stopped the first rank that failed, or that one died.
    """
    folder = Path(job.scratch) / "ranks"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.json"):
        stale.unlink()
    file_io.write_json(
        folder / "task.json",
        {
            "stage": stage,
            "settings": settings,
            "parents": {role: str(path) for role, path in parents.items()},
            "out": str(out),
            "where": job.where,
            "device": job.device.partition(":")[0],
            "scratch": str(job.scratch),
            "threads": job.threads,
            "memory": dict(job.memory),
            "training": dict(job.training),
            "seed": job.seed(stage),
            "job": os.getpid(),
        },
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [
        f"--nproc-per-node={settings['processes']}",
        "-m",
        "prunegrid.finetuning.processes",
        str(folder),
    ]
    code = run_watched(command, environment_of(job))
    with contextlib.suppress(AttestationError):
        return file_io.read_json(folder / "record.json")
    raise _failure(folder, code, job.where)


def environment_of(job: Any) -> dict[str, str]:
    """Return what the ranks run under: this library, these threads, the job's own devices."""
    path = os.pathsep.join(filter(None, [str(LIBRARY), os.environ.get("PYTHONPATH")]))
    found = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(job.threads)}
    # Their lines go to a log: bars there would be noise.
    found["TQDM_DISABLE"] = "1"
    if job.device.startswith("cuda"):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else None
        chosen = [int(device.partition(":")[2]) for device in job.devices]
        found["CUDA_VISIBLE_DEVICES"] = ",".join(names[i] if names else str(i) for i in chosen)
    return found


def run_watched(command: list[str], environment: dict[str, str]) -> int:
    """Run the launcher, its lines in this job's log; return its exit code."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        for line in process.stdout:
            if line.strip():
                log.info("%s", line.rstrip())
        return process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        # Ranks are of sessions of their own, so that signal is not theirs.
        if not _closed(process.stdout.fileno(), END_SECONDS):
            log.warning("processes of the training have not ended after %.0f s", END_SECONDS)


def _closed(pipe: int, seconds: float) -> bool:
    """Return whether all who could write to a pipe are gone, within some seconds."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        ready, _, _ = select.select([pipe], [], [], left)
        if ready and not os.read(pipe, 65536):
            return True
    return False


def _failure(folder: Path, code: int, where: str) -> PrunegridError:
    """Return the error of the first rank that told one."""
    from prunegrid.finetuning.training.divergence import Diverged

    kinds = {kind.__name__: kind for kind in (PrunegridError, AttestationError, Diverged)}
    for path in sorted(folder.glob("error.*.json")):
        told = file_io.read_json(path)
        kind = kinds.get(told.pop("kind"), PrunegridError)
        return kind(told.pop("what"), **told)
    return PrunegridError(
        f"a process of the training ended (exit code {code}) without a word",
        where=where,
        remedy="see the log; it may have been killed for memory: give the job more, or use fewer "
        "processes",
    )


def main(folder: Path) -> None:
    """Run one rank of the task in `folder`."""
    launcher = os.getppid()
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    rank = int(os.environ["RANK"])
    level = logging.INFO if rank == 0 else logging.WARNING
    logging.basicConfig(level=level, format=f"rank {rank}: %(name)s: %(message)s", force=True)
    threading.Thread(target=end_with, args=(task["job"], launcher), daemon=True).start()
    with importing("torch"):
        settle_torch(task["threads"])
    try:
        record = _run(task)
    except PrunegridError as error:
        told = {key: getattr(error, key) for key in ("what", "where", "expected", "remedy")}
        told["kind"] = type(error).__name__
        file_io.write_json(folder / f"error.{rank}.json", told)
        raise SystemExit(1) from error
    file_io.write_json(folder / "record.json", record)


def _run(task: dict[str, Any]) -> dict:
    """Return the stage's record; only the first rank comes back from it."""
    from accelerate import PartialState

    on_cpu = task["device"] == "cpu"
    state = PartialState(cpu=on_cpu)
    job = SimpleNamespace(
        device="cpu" if on_cpu else f"cuda:{state.local_process_index}",
        scratch=Path(task["scratch"]),
        where=task["where"],
        threads=task["threads"],
        memory=task["memory"],
        training=task["training"],
        seed=lambda purpose: task["seed"],
    )
    parents = {role: Path(path) for role, path in task["parents"].items()}
    name = f"prunegrid.stages.{task['stage']}"
    with importing(name):
        stage = importlib.import_module(name)
    return stage.run(task["settings"], parents, Path(task["out"]), job)


def end_with(job: int, launcher: int) -> None:
    """End this process when the job or its parent is gone: killed, they cannot tell their ranks."""
    while os.getppid() == launcher:
        try:
            os.kill(job, 0)
        except ProcessLookupError:
            break
        time.sleep(WATCH_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    finally:
        gc.freeze()  # see `prunegrid.common.gc_pause`
