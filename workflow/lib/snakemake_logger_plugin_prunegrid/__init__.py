"""Snakemake's output as a line a step: `snakemake --logger prunegrid …`.

Each line says which step of how many has ended, how long it took, and about how long all others
will take. What jobs and their libraries print goes to their logs. Warnings and errors are shown.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

# Seconds of a step, until one of its rule has ended; only their ratios matter.
TYPICAL = {"finetune": 100, "generate": 40, "efficiency": 60, "prune": 20, "tasks": 60}
OTHERWISE = 10
# Snakemake's own lines that a reader can do without.
DULL = (
    *("Assuming unrestricted shared", "host:", "Building DAG", "Complete log", "Provided"),
    *("Select jobs to execute", "Execute ", "Using ", "Conda environments: ignored", "Config file"),
)


class Progress:
    """Counts steps and estimates the time left.

    Args:
        clock: gives seconds, as `time.monotonic`.
    """

    def __init__(self, clock: Any = time.monotonic) -> None:
        self.clock, self.begun = clock, clock()
        self.total = self.done = 0
        self.waiting: Counter[str] = Counter()
        self.running: dict[int, tuple[str, str, float]] = {}
        self.spent: dict[str, list[float]] = defaultdict(list)

    def plan(self, counts: dict[str, int]) -> None:
        """Take the number of steps by rule."""
        self.waiting = Counter(counts)
        self.total = sum(counts.values())

    def start(self, job: int, rule: str, text: str) -> None:
        """Note that a step has begun; a step that is tried again begins anew."""
        if job not in self.running:
            self.waiting[rule] -= 1
        self.running[job] = (rule, text, self.clock())

    def finish(self, job: int) -> str | None:
        """Return the line of a step that has ended; None for one that never began."""
        if job not in self.running:
            return None
        rule, text, began = self.running.pop(job)
        seconds = self.clock() - began
        self.spent[rule].append(seconds)
        self.done += 1
        left = f"about {duration(self.left())} left" if self.done < self.total else "done"
        width = len(str(self.total))
        return f"[{self.done:{width}}/{self.total}] {duration(seconds):>8}  {text}  ({left})"

    def left(self) -> float:
        """Return about how many seconds all other steps will take.

        Steps of a rule take as long as those before them did; as many run side by side as did so
        far.
        """
        spent = sum(map(sum, self.spent.values()))
        beside = max(1.0, spent / max(self.clock() - self.begun, 1e-9))
        todo = sum(max(count, 0) * self._typical(rule) for rule, count in self.waiting.items())
        for rule, _, began in self.running.values():
            todo += max(0.0, self._typical(rule) - (self.clock() - began))
        return todo / beside

    def _typical(self, rule: str) -> float:
        """Return the mean seconds of a rule's steps; of one not yet seen, by TYPICAL's ratios."""
        if self.spent[rule]:
            return sum(self.spent[rule]) / len(self.spent[rule])
        seen = [(sum(s), len(s) * TYPICAL.get(r, OTHERWISE)) for r, s in self.spent.items() if s]
        pace = sum(a for a, _ in seen) / sum(b for _, b in seen) if seen else 1.0
        return pace * TYPICAL.get(rule, OTHERWISE)


def duration(seconds: float) -> str:
    """Return seconds as people write them: `8 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


class LogHandler(LogHandlerBase):
    """Writes the lines to standard error."""

    def __post_init__(self) -> None:
        """Let jobs write to their logs alone."""
        from prunegrid.common.logs import (
            QUIET,  # Snakemake imports every plugin, also where none is asked
        )

        self.progress = Progress()
        os.environ[QUIET] = "1"

    def emit(self, record: logging.LogRecord) -> None:
        """Write what a record comes to."""
        try:
            text = self._text(record)
        except Exception:  # a line that cannot be written is no reason to stop a run
            self.handleError(record)
            return
        if text:
            print(text, file=sys.stderr, flush=True)

    def _text(self, record: logging.LogRecord) -> str | None:
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            counts = {k: v for k, v in record.stats.items() if k != "total"}
            self.progress.plan(counts)
            return f"{self.progress.total} steps to do"
        if event == LogEvent.JOB_INFO:
            self.progress.start(record.jobid, record.rule_name, record.rule_msg or record.rule_name)
            return None
        if event == LogEvent.JOB_FINISHED:
            return self.progress.finish(record.job_id)
        if event == LogEvent.JOB_ERROR:
            return failure(record)
        if event is not None and record.levelno < logging.WARNING:
            return None
        message = record.getMessage() if record.msg else ""
        return None if message.startswith(DULL) else message.strip()

    @property
    def writes_to_stream(self) -> bool:
        """It takes the place of Snakemake's own output."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """Snakemake keeps its own log file."""
        return False

    @property
    def has_filter(self) -> bool:
        """It chooses by itself what it writes."""
        return True

    @property
    def has_formatter(self) -> bool:
        """It writes plain lines."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """It draws none."""
        return False


def failure(record: logging.LogRecord) -> str:
    """Return the line of a step that failed: why, by its status record, and where its log is."""
    logs = ", ".join(map(str, getattr(record, "log", None) or ()))
    reason = "no reason was recorded"
    for path in map(Path, getattr(record, "log", None) or ()):
        for status in Path("results/status").glob(f"*-{path.stem}.json"):
            reason = json.loads(status.read_bytes()).get("reason", reason)
    return f"FAILED  {getattr(record, 'rule_name', 'a step')}: {reason} (log: {logs})"
