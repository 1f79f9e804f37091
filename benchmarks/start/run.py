"""CPU seconds of a job's start by its kind: a tiny study's steps, one by one in fresh processes.

python benchmarks/start/run.py
python benchmarks/start/run.py --before REVISION --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import yaml  # noqa: E402

from tests.helpers.tiny_data import write_tiny_data  # noqa: E402

STUDIES = ("tiny", "one", "recovery", "census-tiny")
END = b"######## snakemake preamble end #########\n"
# What jobs cannot do without, imported by itself as anyone would.
ALONE = {
    "torch": "import torch",
    "torch and transformers' models": "import torch; from transformers import PreTrainedModel",
    "the same without collections": "import gc; gc.disable(); import torch; "
    "from transformers import PreTrainedModel; gc.freeze()",
    "peft": "import peft",
    "bitsandbytes": "import bitsandbytes",
    "evaluate": "import evaluate",
    "bert_score": "import bert_score",
}
# Libraries that no job should import for nothing.
LARGE = ("peft", "evaluate", "bitsandbytes", "bert_score", "lm_eval", "datasets", "pandas")


class Job(NamedTuple):
    """A step of the study: the script that Snakemake ran, and the artifact that it makes."""

    script: Path
    artifact: Path | None


class Tree:
    """A version of the project, and a folder in which it has made the tiny study.

    Args:
        project: the folder of its Snakefile.
        folder: an empty folder.
    """

    def __init__(self, project: Path, folder: Path) -> None:
        self.project, self.folder = project, folder
        folder.mkdir(parents=True)
        write_tiny_data(folder)
        tree = yaml.safe_load((project / "tests/tiny/config.yaml").read_text())
        tree["evaluations"]["tiny-quick"]["metrics"] = ["rouge", "length"]
        (folder / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))

    def environment(self, *more: str) -> dict[str, str]:
        """Return the environment of a process: this tree's library, no hub."""
        path = [str(self.project / "workflow/lib"), *more]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "HF_HUB_OFFLINE": "1"}

    def snakemake(self, *arguments: str) -> float:
        """Return the CPU seconds of a Snakemake run and of all its jobs.

        Python's `site` is left out (-S), so that no other version of the project that is installed
        in the environment is on the path.
        """
        base = [sys.executable, "-S", "-m", "snakemake", "--cores", "1", "--skip-script-cleanup"]
        base += ["--snakefile", str(self.project / "Snakefile"), "--configfile", "config.yaml"]
        places = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
        targets = [f"results/{study}.parquet" for study in STUDIES]
        return cpu(
            [*base, *arguments, "--", *targets], self.folder, self.environment(*sorted(places))
        )

    def jobs(self) -> dict[str, Job]:
        """Return {kind: a job of it} of what the study ran."""
        found = {}
        for script in sorted((self.folder / ".snakemake/scripts").glob("*.py")):
            params = params_of(script.read_bytes())
            node = params.get("node")
            if node is None:
                found[f"table {params['plan']['study']}"] = Job(script, None)
            else:
                found.setdefault(kind_of(node), Job(script, self.folder / node["path"]))
        return {kind: found[kind] for kind in sorted(found)}

    def run(self, script: Path, *before: str, artifact: Path | None = None) -> float:
        """Return the CPU seconds of a script in a fresh process; its artifact is made again."""
        if artifact is not None:
            shutil.rmtree(artifact, ignore_errors=True)
        return cpu([sys.executable, *before, str(script)], self.folder, self.environment())

    def measure(self, job: Job) -> dict[str, Any]:
        """Return the CPU seconds of a job's start and imports, and what it has imported."""
        report = self.folder / "report.json"
        if job.artifact is not None:
            shutil.rmtree(job.artifact, ignore_errors=True)
        command = [sys.executable, str(HERE / "imports.py"), str(job.script), str(report)]
        cpu(command, self.folder, self.environment())
        bare = self.folder / "preamble.py"
        bare.write_bytes(job.script.read_bytes().partition(END)[0])
        return json.loads(report.read_text()) | {"start": self.run(bare)}


def cpu(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> float:
    """Return the CPU seconds of a process and of those that it waited for.

    Raises:
        SystemExit: it failed.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{output.read().decode()[-3000:]}")
    return used.ru_utime + used.ru_stime


def params_of(script: bytes) -> Any:
    """Return the params of the job whose script Snakemake wrote."""
    pickled = re.search(rb"snakemake = pickle\.loads\((b.*)\);from snakemake\.logging", script)
    return pickle.loads(eval(pickled[1])).params  # noqa: S301 - of a file that this program made


def kind_of(node: Mapping[str, Any]) -> str:
    """Return the kind of a job: its stage, and what decides which libraries it calls."""
    stage, settings = node["stage"], node["settings"]
    if stage in ("finetune", "transform"):
        return f"{stage} {settings['strategy']} {settings.get('adapter') or ''}".strip()
    if stage in ("scores", "controls"):
        return f"{stage}, BERTScore too" if "tiny-bertscore" in settings["metrics"] else stage
    if stage in ("predictions", "perplexity", "efficiency"):
        ends = {"qlora": "NF4 and adapter", "lora": "adapter", "unmasked": "adapter"}
        last = node["label"].rpartition(" > ")[0].rpartition("tiny-")[2]
        last = "NF4" if last == "merged" else ends.get(last, last if last == "int8" else "plain")
        return f"{stage} of {last}"
    return f"prune {settings['method']}" if stage == "prune" else stage


def worktree(revision: str, folder: Path) -> Path:
    """Return a folder that holds a revision of the project."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "archive", revision], cwd=ROOT, check=True, stdout=subprocess.PIPE
    )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def show(trees: Sequence[Tree], rounds: int, only: str) -> None:
    """Print a line a kind of job: CPU seconds of each tree, and of the last its parts."""
    jobs = [tree.jobs() for tree in trees]
    print("| job | " + ("before | now | ratio" if len(trees) > 1 else "now"), end="")
    print(" | start | imports | modules | largest imports | of " + ", ".join(LARGE) + " |")
    for kind, job in jobs[-1].items():
        if not re.search(only, kind):
            continue
        totals: list[list[float]] = [[] for _ in trees]
        for _ in range(rounds):
            for tree, known, total in zip(trees, jobs, totals, strict=True):
                if kind in known:
                    total.append(tree.run(known[kind].script, artifact=known[kind].artifact))
        least = [min(total) if total else float("nan") for total in totals]
        parts = trees[-1].measure(job)
        seconds = sorted(parts["seconds"].items(), key=lambda item: -item[1])[:4]
        cells = [f"{value:.2f}" for value in least]
        cells += [f"{least[1] / least[0]:.2f}"] if len(trees) > 1 else []
        cells += [f"{parts['start']:.2f}", f"{sum(parts['seconds'].values()):.2f}"]
        cells += [str(parts["modules"]), ", ".join(f"{n} {s:.2f}" for n, s in seconds)]
        cells += [", ".join(name for name in LARGE if name in parts["loaded"]) or "none"]
        print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Make the tiny study with each version, then run its jobs in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", metavar="REVISION", help="measure this revision too")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each job; the least counts")
    parser.add_argument("--only", default="", metavar="PATTERN", help="kinds of jobs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="start-") as place:
        scratch = Path(place)
        trees = [Tree(ROOT, scratch / "now")]
        if arguments.before:
            project = worktree(arguments.before, scratch / "project")
            trees.insert(0, Tree(project, scratch / "before"))
        whole = [tree.snakemake() for tree in trees]
        again = [min(tree.snakemake() for _ in range(arguments.rounds)) for tree in trees]
        count = [len(list((tree.folder / ".snakemake/scripts").glob("*"))) for tree in trees]
        for name, seconds in (("the whole study", whole), ("Snakemake, all made", again)):
            print(f"{name}: {', '.join(f'{value:.1f}' for value in seconds)} CPU s", end="; ")
        print(f"jobs: {', '.join(map(str, count))}")
        for name, code in ALONE.items():
            command = [sys.executable, "-c", code]
            least = min(
                cpu(command, scratch, trees[-1].environment()) for _ in range(arguments.rounds)
            )
            print(f"{name} alone: {least:.2f} CPU s")
        show(trees, arguments.rounds, arguments.only)


if __name__ == "__main__":
    main()
