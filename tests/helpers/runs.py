"""Running the workflow in a folder of its own, and reading what Snakemake says it would do."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import yaml

from tests.helpers import ROOT, warm
from tests.helpers.tiny_data import write_tiny_data

TINY = ROOT / "tests/tiny/config.yaml"
# Seconds that only keep a test from hanging for ever, on whatever machine.
FOR_EVER = 3600
MEASURED = ("seconds", "per_second", "peak_memory_bytes", "speed_", "joules")
PARTS = ("Snakefile", "config.yaml", "config", "workflow", "envs", "profiles")


class Run:
    """A project and a working folder for it.

    Attributes:
        folder: the working folder: data, config, results.
        project: the folder of the Snakefile.
        snakefile: its name there.
    """

    snakefile = "Snakefile"

    def __init__(self, folder: Path, project: Path = ROOT) -> None:
        self.folder, self.project = folder, project

    @classmethod
    def fresh(cls, folder: Path) -> Run:
        """Return a run in an empty folder with the tiny data and config."""
        folder.mkdir(parents=True, exist_ok=True)
        write_tiny_data(folder)
        shutil.copy(TINY, folder / "config.yaml")
        return cls(folder)

    def copy(self, folder: Path, project: bool = False) -> Run:
        """Return a copy of the folder, with a copy of the project where it is to be edited."""
        shutil.copytree(self.folder, folder, symlinks=True)
        if not project:
            return Run(folder, self.project)
        place = folder / "project"
        place.mkdir()
        ignore = shutil.ignore_patterns("__pycache__")
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, place / part, ignore=ignore)
            else:
                shutil.copy(source, place / part)
        return Run(folder, place)

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a Snakemake run with the folder's config."""
        # The profile is not named: Snakemake has to find `profiles/default` by itself.
        base = [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            str(self.project / self.snakefile),
        ]
        return [*base, "--cores", "2", *arguments, "--configfile", "config.yaml"]

    def snakemake(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        """Run Snakemake to its end; its output is in stdout."""
        return self._run(self.command(*arguments), environment)

    def _run(self, words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess:
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=FOR_EVER,
            check=False,
        )

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a run: no hub, the project's own library, a warm start."""
        own = warm.environment(self.project / "workflow/lib")
        return {**os.environ, **own, "HF_HUB_OFFLINE": "1", **more}

    def make_artifacts(self, study: str, config: str = "config.yaml", **environment: str) -> None:
        """Make a study's artifacts in one process; a run then has but its table to make.

        A job of its own takes a second, nearly all that a tiny step takes.
        """
        script = warm.HERE / "make_all.py"
        words = [sys.executable, str(script), str(self.project), config, study]
        done = self._run(words, environment)
        assert done.returncode == 0, done.stdout[-4000:]

    def plan(self, *arguments: str, **environment: str) -> dict[str, int]:
        """Return {rule: jobs} of a dry run; {} where nothing is to be done."""
        done = self.snakemake("-n", *arguments, "--quiet", "rules", **environment)
        assert done.returncode == 0, done.stdout
        counts = {}
        for line in done.stdout.split("Job stats:")[-1].splitlines():
            match = re.match(r"^(\w+)\s+(\d+)$", line)
            if match and match[1] != "total":
                counts[match[1]] = int(match[2])
        if not counts:
            assert "Nothing to be done" in done.stdout, done.stdout
        return counts

    def prunegrid(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run the command `prunegrid`."""
        return subprocess.run(
            [sys.executable, "-m", "prunegrid", *arguments],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=FOR_EVER,
            check=False,
        )

    def configure(self, change) -> None:
        """Change the folder's config: `change` gets its tree."""
        path = self.folder / "config.yaml"
        tree = yaml.safe_load(path.read_text())
        change(tree)
        path.write_text(yaml.safe_dump(tree, sort_keys=False))

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file of the (copied) project."""
        assert self.project != ROOT
        path = self.project / name
        text = path.read_text()
        assert old in text, f"{old!r} is not in {name}"
        path.write_text(text.replace(old, new, 1))


def table(run: Run, study: str = "tiny") -> pandas.DataFrame:
    """Return a study's table."""
    return pandas.read_parquet(run.folder / f"results/{study}.parquet")


def lasting(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return a table without times and memory."""
    return frame[[c for c in frame if not any(word in c for word in MEASURED)]]


def running(run: Run, stage: str) -> int | None:
    """Return the process of a job of a stage that is alive."""
    for path in run.folder.glob(f"results/status/{stage}-*.json"):
        try:
            pid = json.loads(path.read_text())["pid"]
            if b"step.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        except (json.JSONDecodeError, KeyError, FileNotFoundError, ProcessLookupError):
            continue
    return None


def wait_for(condition: Callable[[], Any], seconds: float = FOR_EVER) -> Any:
    """Return what a condition gives as soon as that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")
