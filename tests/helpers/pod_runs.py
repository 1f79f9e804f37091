"""Running a project through `profiles/kubernetes`, its pods played by processes in empty folders.

`tests/workflow/plugins` holds the executor, and a storage provider that needs no rsync.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.helpers.runs import ROOT, Run

PLUGINS = ROOT / "tests/workflow/plugins"
PROFILE = ROOT / "profiles/kubernetes/config.yaml"
CONFIG = "mine.yaml"
# What the profile says of a cluster; all else in it is run.
PLAYED = {
    "executor": "pods",
    "default-storage-provider": "folder",
    "latency-wait": 3,
    "seconds-between-status-checks": 1,
    "retries": 1,
}
OF_KUBERNETES = ("kubernetes-persistent-volumes", "container-image")


class PodRun(Run):
    """A run in the project's own folder, as the profile wants it.

    Attributes:
        pods: the folder of the pods, outside the working folder; each has `command` and `output`.
            Without it jobs run at home.
    """

    def __init__(self, folder: Path, pods: Path | None) -> None:
        super().__init__(folder, folder)
        self.pods = pods

    @classmethod
    def of(cls, run: Run, folder: Path) -> PodRun:
        """Return a copy of a run's folder that is a clone of the project too."""
        made = run.copy(folder, project=True)
        shutil.move(made.folder / "config.yaml", made.folder / CONFIG)
        for part in made.project.iterdir():
            shutil.move(part, made.folder)
        made.project.rmdir()
        for command in (["init", "-q"], ["add", "Snakefile", "config*", "workflow", "profiles"]):
            subprocess.run(["git", *command], cwd=made.folder, check=True)
        pods = made.folder.with_name("pods")
        pods.mkdir()
        return cls(made.folder, pods)

    @property
    def at_home(self) -> PodRun:
        """Return a run in the same folder without pods."""
        return PodRun(self.folder, None)

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a run with the folder's config, in pods or at home."""
        if self.pods is None:
            how = ["--cores", "2"]
        else:
            profile = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
            played = {k: v for k, v in profile.items() if k not in OF_KUBERNETES} | PLAYED
            place = self.folder.with_name("profile")
            place.mkdir(exist_ok=True)
            (place / "config.yaml").write_text(yaml.safe_dump(played, sort_keys=False))
            how = ["--workflow-profile", str(place)]
        return [sys.executable, "-m", "snakemake", *how, *arguments, "--configfile", CONFIG]

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a run, with the plugins and the place of the pods.

        It starts cold: a warm Snakemake has looked for its plugins already.
        """
        made = super().environment(**more)
        path = os.pathsep.join([made["PYTHONPATH"], str(PLUGINS)])
        return made | {"PYTHONPATH": path, "PODS": str(self.pods), "PRUNEGRID_WARM": ""}

    def configure(self, change) -> None:
        """Change the folder's config: `change` gets its tree."""
        path = self.folder / CONFIG
        tree = yaml.safe_load(path.read_text())
        change(tree)
        path.write_text(yaml.safe_dump(tree, sort_keys=False))

    def pods_of(self, name: str) -> list[Path]:
        """Return the folders of the pods of a rule or group, in order of their start."""
        return sorted(self.pods.glob(f"{name}*"), key=lambda pod: (pod / "command").stat().st_mtime)
