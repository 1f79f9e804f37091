"""Runs models of the matrix, each in a process of its own that may crash or hang."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.matrix import columns, verdicts
from tests.matrix.subjects import subject

# Seconds that one model may take in all: about thirty times what the slowest needs.
LIMIT = 900
# The results of one model: step → (verdict, reason).
Cells = dict[str, tuple[str, str]]


def work(name: str, steps: Sequence[str], out: Path) -> None:
    """Judge steps of one model, and append each verdict to a file as it is known."""
    import torch

    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    warnings.filterwarnings("ignore")
    scratch = Path(tempfile.mkdtemp(prefix="matrix-", dir=out.parent))
    with open(os.devnull, "w") as quiet:
        os.dup2(quiet.fileno(), 1)
        os.dup2(quiet.fileno(), 2)
    one = subject(name, scratch)
    with out.open("a", encoding="utf-8") as lines:
        for step in steps:
            print(json.dumps({"begun": step}), file=lines, flush=True)
            verdict, reason = columns.judge(one, step)
            print(json.dumps({"step": step, "cell": [verdict, reason]}), file=lines, flush=True)
    shutil.rmtree(scratch, ignore_errors=True)


class Attempt:
    """One model on its way; a crash ends the step that ran, and the others go on."""

    def __init__(self, name: str, steps: Sequence[str], folder: Path) -> None:
        self.name, self.steps, self.cells = name, list(steps), {}
        self.out = folder / f"{name}.jsonl"
        self.ends = time.monotonic() + LIMIT
        self._start()

    def _start(self) -> None:
        left = [step for step in self.steps if step not in self.cells]
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=work, args=(self.name, left, self.out))
        self.process.start()

    def is_done(self) -> bool:
        """Return whether all steps have a verdict; take up the rest after a crash."""
        late = time.monotonic() > self.ends
        if self.process.is_alive():
            if not late:
                return False
            self.process.kill()
        self.process.join()
        begun = self._read()
        left = [step for step in self.steps if step not in self.cells]
        if not left:
            return True
        code = self.process.exitcode
        reason = f"more than {LIMIT} s" if late else f"the process ended with code {code}"
        self.cells[begun or left[0]] = (verdicts.FAULT, reason)
        if late:
            others = {step: (verdicts.UNTRIED, "out of time") for step in left}
            self.cells = others | self.cells
            return True
        if len(left) > 1:
            self._start()
            return False
        return True

    def _read(self) -> str | None:
        """Read the verdicts so far, and return the step that has begun and not ended."""
        begun = None
        lines = self.out.read_text(encoding="utf-8").splitlines() if self.out.exists() else []
        for line in lines:
            try:
                facts = json.loads(line)
            except ValueError:  # the last line of a process that died
                continue
            begun = facts.get("begun", begun)
            if "cell" in facts:
                self.cells[facts["step"]] = tuple(facts["cell"])
        return begun if begun not in self.cells else None


def run(
    names: Sequence[str], steps: Sequence[str], jobs: int, tell: Callable[[str], None]
) -> dict[str, Cells]:
    """Return name → step → (verdict, reason), running some models side by side."""
    import peft  # noqa: F401 - takes seconds, here once for all models

    results: dict[str, Cells] = {}
    waiting, going, began = list(names), [], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        while waiting or going:
            while waiting and len(going) < jobs:
                going.append(Attempt(waiting.pop(0), steps, Path(folder)))
            time.sleep(0.1)
            for attempt in [attempt for attempt in going if attempt.is_done()]:
                going.remove(attempt)
                results[attempt.name] = {step: attempt.cells[step] for step in steps}
                seconds = time.monotonic() - began
                left = seconds / len(results) * (len(names) - len(results))
                tell(
                    f"{len(results)}/{len(names)} {attempt.name}: {summary(attempt.cells)};"
                    f" about {left / 60:.0f} min left"
                )
    return {name: results[name] for name in names}


def summary(cells: Cells) -> str:
    """Return the counts of verdicts, and the steps with a fault."""
    found = [verdict for verdict, _ in cells.values()]
    told = [f"{found.count(v)} {v}" for v in dict.fromkeys(found)]
    faults = [step for step, (verdict, _) in cells.items() if verdict == verdicts.FAULT]
    return ", ".join(told) + (f" ({', '.join(faults)})" if faults else "")
