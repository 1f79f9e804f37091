"""Running the tiny studies through `profiles/slurm`, and reading what Slurm says of their jobs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas

from tests.helpers.runs import ROOT, Run

# The node looks more often than a cluster would like; all else is the profile.
QUICK = ("--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1")
MEASURED = ("seconds", "per_second", "peak_memory_bytes", "speed_", "joules")


class SlurmRun(Run):
    """A working folder whose jobs Slurm runs."""

    @classmethod
    def fresh(cls, folder: Path) -> SlurmRun:
        """Return a run in an empty folder, with two more studies in its config."""
        run = super().fresh(folder)
        run.configure(_add_studies)
        return run

    def copy(self, folder: Path, project: bool = False) -> SlurmRun:
        """Return a copy of the folder (and of the project, where it is to be edited)."""
        made = super().copy(folder, project)
        return SlurmRun(made.folder, made.project)

    def without(self, *stages: str) -> SlurmRun:
        """Take the artifacts of stages away, all tables, and what Snakemake remembers."""
        for stage in stages:
            shutil.rmtree(self.folder / "results/artifacts" / stage, ignore_errors=True)
        for table in self.folder.glob("results/*.*"):
            table.unlink()
        shutil.rmtree(self.folder / ".snakemake", ignore_errors=True)
        return self

    def slurm_command(self, *arguments: str) -> list[str]:
        """Return the command line of a run through the profile: targets, then options over it."""
        base = [sys.executable, "-m", "snakemake", "--snakefile", str(self.project / "Snakefile")]
        base += ["--workflow-profile", str(ROOT / "profiles/slurm"), *QUICK]
        return [*base, *arguments, "--configfile", "config.yaml"]

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start a run through the profile; its output goes to run.log."""
        with open(self.folder / "run.log", "w") as log:
            return subprocess.Popen(
                self.slurm_command(*arguments),
                cwd=self.folder,
                env=self.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def finish(self, process: subprocess.Popen, seconds: int = 1500) -> tuple[int, str]:
        """Return the exit code and output of a run that was started."""
        try:
            process.wait(seconds)
        finally:
            process.kill()
        return process.returncode, (self.folder / "run.log").read_text()

    def on_slurm(self, *arguments: str) -> tuple[int, str]:
        """Run through the profile to the end; return the exit code and the output."""
        return self.finish(self.start(*arguments))

    def jobs(self) -> list[dict[str, str]]:
        """Return what Slurm knows of the jobs of this folder, in order; `what` is their rule."""
        shown = subprocess.run(
            ["scontrol", "show", "jobs", "-o"], capture_output=True, text=True, check=False
        )
        found = []
        for line in shown.stdout.splitlines():
            job = dict(re.findall(r"(\S+?)=(\S*)", line))
            if job.get("WorkDir") == str(self.folder):
                name = job["Comment"].removeprefix("rule_")
                job["what"] = re.split(r"_wildcards_|-[0-9a-f]{16}", name)[0]
                found.append(job)
        return sorted(found, key=lambda job: int(job["JobId"]))

    def job(self, what: str, state: str) -> dict[str, str] | None:
        """Return the first job of a rule or group in a state."""
        return next((j for j in self.jobs() if (j["what"], j["JobState"]) == (what, state)), None)

    def table(self, study: str) -> pandas.DataFrame:
        """Return a study's table without times and memory."""
        frame = pandas.read_parquet(self.folder / f"results/{study}.parquet")
        return frame[[c for c in frame if not any(word in c for word in MEASURED)]]

    def stories(self, stage: str) -> list[dict]:
        """Return the manifests of a stage."""
        found = sorted(self.folder.glob(f"results/artifacts/{stage}/*/manifest.json"))
        return [json.loads(path.read_text()) for path in found]


def _add_studies(tree: dict) -> None:
    grid = {"model": "tiny-llama", "prune": "dense"}
    tree["finetune"]["tiny-long"] = {**tree["finetune"]["tiny-full"], "epochs": 80}
    tree["studies"]["long"] = {
        "dataset": "tiny-notes",
        "grid": {**grid, "finetune": "tiny-long"},
        "evaluations": ["tiny-quick"],
    }
    tree["studies"]["ranks"] = {
        "dataset": "tiny-text",
        "grid": {**grid, "finetune": "tiny-chain"},
        "evaluations": ["tiny-ppl"],
    }
    tree["training"] = {"checkpoint_every_s": 0}


def wait_for(condition, seconds: float = 900):
    """Return what the condition finds, once it finds something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.3)
    raise AssertionError("it did not come")
