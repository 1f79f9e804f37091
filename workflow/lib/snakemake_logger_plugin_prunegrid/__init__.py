"""Snakemake's output as a line a step: `snakemake --logger prunegrid …`.

Each line says which step of how many has ended, how long it took, and about how long all others
will take. What jobs and their libraries print goes to their logs. Warnings and errors are shown.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from prunegrid.artifacts.job_status import with_label
from prunegrid.common.durations import duration

# Seconds of a step that nothing is known of: the table's.
OTHERWISE = 10.0
# Seconds until what was seen of a run weighs as much as the number of its cores.
SETTLING = 60.0
# Snakemake's own lines that a reader can do without.
DULL = (
    *("Assuming unrestricted shared", "host:", "Building DAG", "Complete log", "Provided"),
    *("Select jobs to execute", "Execute ", "Using ", "Conda environments: ignored", "Config file"),
    # A failed step has a line of its own.
    *("RuleException", "WorkflowError:\nAt least one job did not", "Elapsed time"),
    *("Cannot restore", "Exiting because a job execution failed"),
)


class Progress:
    """Counts steps and estimates the time left.

    Args:
        clock: gives seconds, as `time.monotonic`.
    """

    def __init__(self, clock: Any = time.monotonic) -> None:
        self.clock, self.begun = clock, clock()
        self.cores: int | None = None  # on which steps run side by side; None if unknown
        self.total = self.done = 0
        self.waiting: dict[str, float] = {}  # {key of a step that has not begun: its seconds}
        self.running: dict[int, tuple[str, str, float, float, str]] = {}
        # {rule: (seconds taken, seconds expected) of each step that has ended}
        self.spent: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.rules: dict[str, str] = {}
        self.revised_after: Collection[str] = ()  # keys of steps that tell more of those after them
        self.revised: Callable[[], Mapping[str, float]] = dict

    def plan(self, total: int) -> None:
        """Take the number of steps."""
        self.total = total

    def expect(self, steps: Mapping[str, tuple[str, float]], cores: int | None = None) -> None:
        """Take {key of a step: (its rule, its seconds)} as estimated, and the cores for them."""
        self.cores, self.begun = cores, self.clock()
        self.rules = {key: rule for key, (rule, _) in steps.items()}
        self.waiting = {key: seconds for key, (_, seconds) in steps.items()}

    def revise(self, after: Collection[str], seconds: Callable[[], Mapping[str, float]]) -> None:
        """Ask `seconds` for {key: seconds} anew when one of the steps `after` has ended."""
        self.revised_after, self.revised = after, seconds

    def start(self, job: int, rule: str, text: str, key: str = "") -> None:
        """Note that a step has begun; a step that is tried again begins anew."""
        before = self.running.get(job)
        expected = before[3] if before else self.waiting.pop(key, OTHERWISE)
        self.running[job] = (rule, text, self.clock(), expected, key)

    def finish(self, job: int) -> str | None:
        """Return the line of a step that has ended; None for one that never began."""
        if job not in self.running:
            return None
        rule, text, began, expected, key = self.running.pop(job)
        if key in self.revised_after:
            self.waiting.update((k, s) for k, s in self.revised().items() if k in self.waiting)
        seconds = self.clock() - began
        self.spent[rule].append((seconds, expected))
        self.done += 1
        left = f"about {duration(self.left())} left" if self.done < self.total else "done"
        width = len(str(self.total))
        return f"[{self.done:{width}}/{self.total}] {duration(seconds):>8}  {text}  ({left})"

    def left(self) -> float:
        """Return about how many seconds all other steps will take.

        Estimates are corrected by what the steps of a rule took so far; as many steps run side by
        side as did so far, in the first minutes as there are cores.
        """
        now = self.clock()
        under_way = [now - began for _, _, began, *_ in self.running.values()]
        spent = sum(seconds for steps in self.spent.values() for seconds, _ in steps)
        beside = self._beside(spent + sum(under_way), now - self.begun)
        todo = sum(s * self._pace(self.rules.get(key, "")) for key, s in self.waiting.items())
        unknown = self.total - self.done - len(self.running) - len(self.waiting)
        todo += max(0, unknown) * OTHERWISE
        for (rule, _, _, expected, _), so_far in zip(self.running.values(), under_way, strict=True):
            todo += max(0.0, expected * self._pace(rule) - so_far)
        return todo / beside

    def _beside(self, busy: float, passed: float) -> float:
        """Return how many steps run side by side, by the seconds that jobs took and that passed."""
        if self.cores:
            busy, passed = busy + SETTLING * self.cores, passed + SETTLING
        return max(1.0, busy / max(passed, 1e-9))

    def _pace(self, rule: str) -> float:
        """Return how much longer than expected steps took: those of a rule, or else all."""
        steps = self.spent.get(rule) or list(itertools.chain(*self.spent.values()))
        expected = sum(seconds for _, seconds in steps)
        return sum(seconds for seconds, _ in steps) / expected if expected else 1.0


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
            self.progress.plan(sum(n for k, n in record.stats.items() if k != "total"))
            count = self.progress.total
            return f"{count} step{'s' if count > 1 else ''} to do"
        if hasattr(record, "expected"):
            self.progress.expect(record.expected, record.beside)
            self.progress.revise(record.revised_after, record.revised)
            guess = ": the time left is measured as it runs" if "guess" in record.about else ""
            return f"{record.getMessage()}; {record.about}{guess}"
        if event == LogEvent.JOB_INFO:
            text = record.rule_msg or record.rule_name
            key = (getattr(record, "wildcards", None) or {}).get("key", "")
            self.progress.start(record.jobid, record.rule_name, text, key)
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
    """Return the line of a step that has made nothing: why, by its status record, and its log."""
    from prunegrid.running import interruption  # as above

    logs = ", ".join(map(str, getattr(record, "log", None) or ()))
    state = {"state": "interrupted" if interruption.is_told() else "failed"}
    state |= {"label": getattr(record, "rule_name", "a step"), "reason": "no reason was recorded"}
    for path in map(Path, getattr(record, "log", None) or ()):
        for status in Path("results/status").glob(f"*-{path.stem}.json"):
            state |= json.loads(status.read_bytes())
    # A job that was told to stop with its run, or ended before it could say anything.
    ended = interruption.is_told() and (state.get("is_told") or state["state"] == "running")
    if ended or state["state"] == "interrupted":
        return f"interrupted  {state['label']}"
    return f"FAILED  {with_label(state['label'], state['reason'])} (log: {logs})"
