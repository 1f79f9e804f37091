"""Runs of a study by Snakemake, with all of this machine; the table and its places at the end."""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pandas
import psutil
from rich.console import Console
from rich.live import Live
from rich.text import Text

from prunegrid.artifacts import lock
from prunegrid.artifacts.artifact_folder import recorded
from prunegrid.artifacts.job_status import read_state
from prunegrid.commands import show, terminal_table
from prunegrid.commands.watch import INTERRUPTED
from prunegrid.common import machine
from prunegrid.common.durations import duration
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.common.file_io import read_json
from prunegrid.common.source_code import LIBRARY
from prunegrid.tables.speed import packed_line

SNAKEFILE = LIBRARY.parent.parent / "Snakefile"
RESULTS = Path("results")
DULL = "Using workflow specific profile"  # Snakemake prints it before its logger begins
VERIFIED_BYTES_A_SECOND = 1e8  # of weights: hashed, loaded, counted
_STEP = re.compile(r"^\[ *\d+/\d+\]")  # the line of a step that has ended


def command(
    study: str,
    files: Sequence[Path] = (),
    values: Sequence[str] = (),
    cores: int | None = None,
    memory_mb: int | None = None,
) -> list[str]:
    """Return Snakemake's command line for a study's table.

    Args:
        files, values: of the config, see `prunegrid.commands.cli_config`.
        cores: of all jobs together; None for as many as this process may use.
        memory_mb: of all jobs together; None for what the machine has.
    """
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)]
    words += ["--cores", str(cores or machine.cores()), "--logger", "prunegrid"]
    words += ["--resources", f"mem_mb={memory_mb}"] if memory_mb else []
    words += ["--configfile", *map(str, files)] if files else []
    words += ["--config", *values] if values else []
    return [*words, "--", f"results/{study}.parquet"]


def again(study: str, files: Sequence[Path] = (), values: Sequence[str] = ()) -> str:
    """Return the command that goes on with a study, as it is typed."""
    words = ["prunegrid", "run", study]
    words += ["-c", *map(str, files)] if files else []
    words += ["--config", *values] if values else []
    return shlex.join(words)


def run_study(study: str, words: Sequence[str], same: str) -> int:
    """Run a command line of `command`; print the table and its places; return the exit status.

    While another run is under way in this folder, it waits.

    Args:
        same: of `again`, for the words after a failure or Ctrl-C.
    """
    began, told = time.monotonic(), terminal_table.console(stderr=True)
    if lock.is_live():
        how = "prunegrid status shows how far it is, Ctrl-C stops waiting"
        told.print(f"Another run is under way in this folder: waiting for its end ({how}).")
        try:
            lock.wait_for_live()
        except KeyboardInterrupt:
            return INTERRUPTED
    before = _written(study)
    status, is_stopped = follow(words, told)
    took = duration(time.monotonic() - began)
    if is_stopped:
        told.print(
            f"\nStopped after {took}. Finished steps are kept. To go on: {same}", soft_wrap=True
        )
        return INTERRUPTED
    console = terminal_table.console()
    try:
        if status and _written(study) == before:
            raise PrunegridError("this run has written no table")
        fields = show.chosen(study, RESULTS)
    except PrunegridError:
        told.print(f"No table was made. After mending the cause: {same}", soft_wrap=True)
        return status or 1  # Snakemake has said why there is no table
    console.print()
    show.print_warning(study, RESULTS, console)
    show.print_table(fields, console)
    show.print_rest(study, RESULTS, console)
    for line in ending(study, RESULTS, took, same, is_failed=bool(status)):
        console.print(line, markup=False, soft_wrap=True)
    return status


def _written(study: str) -> tuple[int, int] | None:
    """Return what tells one writing of a study's table from another; None without a table."""
    place = RESULTS / f"{study}.parquet"
    return (place.stat().st_mtime_ns, place.stat().st_ino) if place.exists() else None


def follow(words: Sequence[str], console: Console) -> tuple[int, bool]:
    """Run a command to its end; return its exit status, and whether Ctrl-C or SIGTERM stopped it.

    On a terminal what runs now stands in place of a line a step; all other lines stay. Those that
    begin with DULL are left out. SIGTERM is passed on to the command and all that it has started.
    """
    in_place = terminal_table.draws(console)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, errors="replace")
    last, is_stopped = "starting", False

    def now() -> Text:
        return Text("\n".join([last, *_running(RESULTS)]), overflow="ellipsis", no_wrap=True)

    view = Live(get_renderable=now, console=console, refresh_per_second=2, transient=True)
    with _passing_on(process.pid), view as live:
        while True:
            try:
                for line in process.stderr or ():
                    if in_place and _STEP.match(line):
                        last = line.rstrip()
                    elif not line.startswith(DULL):
                        live.console.print(line.rstrip("\n"), markup=False, soft_wrap=True)
                return process.wait(), is_stopped
            except KeyboardInterrupt:  # Snakemake has it too, and ends its jobs
                is_stopped, last = True, "stopping: jobs are ended"


@contextlib.contextmanager
def _passing_on(pid: int) -> Iterator[None]:
    """Have SIGTERM end a process and its descendants inside the context, and not after it."""
    try:
        before = signal.signal(signal.SIGTERM, lambda *_: _terminate(pid))
    except ValueError:  # not the main thread: no signal comes here
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(pid: int) -> NoReturn:
    """End a process and its descendants by SIGTERM, then go on as after Ctrl-C."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in [*parent.children(recursive=True), parent]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
    raise KeyboardInterrupt


def _running(results: Path) -> Iterator[str]:
    """Yield a line for each job that runs now, with how far its loop is."""
    for path in sorted(results.glob("status/*.json")):
        state = read_state(path) or {}
        if state.get("state") == "running" and "label" in state:
            loop = state.get("progress")
            far = f": {loop['unit']} {loop['done']:,} of {loop['of']:,}" if loop else ""
            yield f"  now: {state['label']}{far}"


def ending(study: str, results: Path, took: str, same: str, is_failed: bool) -> Iterator[str]:
    """Yield the last lines of a run: the time, packed speed, disturbed timings, what to type next.

    Args:
        took: the elapsed time in words.
        same: the command that was typed.
    """
    yield f"took {took}"
    table = results / f"{study}.parquet"
    frame = pandas.read_parquet(table)
    packed = packed_line(frame) if "speed_form" in frame else None
    if packed:
        yield packed
    count = int(frame["speed_disturbed"].notna().sum()) if "speed_disturbed" in frame else 0
    if count:
        again = same.replace("prunegrid run", "prunegrid remeasure", 1)
        yield f"{count} timing{'s' * (count > 1)} (§) disturbed by other work on this machine."
        yield f"  to take them again: {again}  (removes them; the next run measures anew)"
    if is_failed:
        yield f"next: mend what failed (prunegrid status {study} names the logs), then: {same}"
    else:
        seconds = verify_seconds(table, frame)
        about = "" if seconds is None else f"; about {duration(seconds)}"
        yield f"next: prunegrid verify {table}  (recompute what the table says{about})"


def verify_seconds(table: Path, frame: pandas.DataFrame) -> float | None:
    """Return about how long `prunegrid verify` takes; None for a census, or if a step is gone.

    It hashes, loads and counts weights, and scores texts again, which takes as long as it did.

    Args:
        frame: the table.
    """
    try:
        plan = read_json(table.with_suffix(".manifest.json"))["plan"]
        pairs = [*plan["baselines"], *(t for cell in plan["cells"] for t in cell["texts"].values())]
        folders = {Path(pair["scores"]["path"]) for pair in pairs}
        scoring = [recorded(folder)["seconds"] for folder in folders]
        weights = float(frame["file_bytes"].fillna(0).sum())
    except (AttestationError, KeyError):
        return None
    return sum(scoring) + weights / VERIFIED_BYTES_A_SECOND
