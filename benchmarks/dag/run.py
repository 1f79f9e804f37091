"""How long a large study takes to plan: `snakemake -n` of studies of many cells, nothing made yet.

    python benchmarks/dag/run.py                    # 1,000 and 5,000 cells; exit 1 over the bound
    python benchmarks/dag/run.py --cells 1000
    python benchmarks/dag/run.py --cells 1000 --made  # all but one cell's artifacts are there

Each cell is pruned, tuned, generated from, scored, asked its perplexity and timed. Seconds are
given as they passed and as the process computed, since another program may run beside it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
# {cells: (seconds of a dry run, bytes of memory)} that it may take on an idle machine.
BOUNDS = {1000: (30, 1e9), 5000: (150, 1e9)}
MODEL = {
    "source": "random:",
    "config": {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64},
}
SEEDS, TUNINGS = 5, 10


def config(cells: int) -> dict:
    """Return a config with a study `dag` of so many cells, of a random model and a local file."""
    prunings = cells // (SEEDS * TUNINGS)
    if prunings % 2 or prunings * SEEDS * TUNINGS != cells:
        sys.exit(f"{cells} cells: expected a multiple of {2 * SEEDS * TUNINGS}")
    levels = [round((i + 1) / (prunings / 2 + 1), 4) for i in range(prunings // 2)]
    rates = [round(1e-5 * (i + 1), 7) for i in range(TUNINGS // 2)]
    text = {"source": "notes.jsonl", "columns": {"document": "body", "summary": "gist"}}
    return {
        "models": {"dag": MODEL},
        "datasets": {"dag": text | {"splits": {"train": "all[:50%]", "test": "all[50%:]"}}},
        "calibration": {"dag": {"dataset": "dag", "split": "train", "samples": 4, "length": 32}},
        "evaluations": {
            "dag": {
                "kind": "texts",
                "splits": ["test"],
                "generation": "greedy-96",
                "metrics": ["rouge", "length"],
                "baselines": {"lead": {"method": "lead", "words": 5}},
            },
            "dag-ppl": {"kind": "perplexity", "dataset": "dag", "split": "test"},
        },
        "efficiency": {"dag": {}},
        "studies": {
            "dag": {
                "dataset": "dag",
                "grid": {
                    "model": "dag",
                    "prune": [
                        {
                            "method": ["wanda", "sparsegpt"],
                            "sparsity": levels,
                            "calibration": "dag",
                        }
                    ],
                    "finetune": [{"strategy": ["full", "lora"], "learning_rate": rates}],
                    "seed": list(range(SEEDS)),
                },
                "evaluations": ["dag", "dag-ppl"],
                "efficiency": "dag",
            }
        },
    }


def prepare(folder: Path, cells: int, made: bool) -> None:
    """Write the config and the data; with `made`, a manifest in place of most artifacts."""
    (folder / "notes.jsonl").write_text('{"body": "a b", "gist": "a"}\n' * 4)
    (folder / "dag.yaml").write_text(yaml.safe_dump(config(cells), sort_keys=False))
    if made:
        command = [sys.executable, __file__, "--pretend", str(folder)]
        subprocess.run(command, cwd=folder, check=True)


def pretend(folder: Path) -> None:
    """Write a manifest, and nothing else, for every node of the study but the last cell's."""
    sys.path.insert(0, str(ROOT / "workflow/lib"))
    from prunegrid.common import file_io
    from prunegrid.config.config_files import project_files, read_files
    from prunegrid.config.load import validate
    from prunegrid.graph.artifact_graph import Graph

    files = [*project_files(ROOT), folder / "dag.yaml"]
    graph = Graph(validate(read_files(files), files, folder), ROOT)
    *plans, _ = graph.plans("dag")
    record = {"record": {"weights": {"parameters": 10**6}}}
    for node in {node for plan in plans for node in plan.nodes()}:
        file_io.write_json(folder / node.manifest, {"key": node.key, **record})


def measure(folder: Path, profiler: str | None = None) -> dict[str, float]:
    """Return what a dry run took: seconds passed and computed, bytes held, jobs planned."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "-n"]
    if profiler:
        command[1:2] = ["-m", "cProfile", "-o", profiler, "-m"]
    command += ["--cores", "2", "--quiet", "rules", "--configfile", "dag.yaml", "--"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow/lib"), "OMP_NUM_THREADS": "1"}
    with open(folder / "out", "w+") as out:
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, "results/dag.parquet"],
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        _, status, used = os.wait4(process.pid, 0)
        passed = time.perf_counter() - began
        out.seek(0)
        text = out.read()
    if status:
        sys.exit(text)
    jobs = re.search(r"^total\s+(\d+)", text, re.MULTILINE)
    return {
        "seconds": passed,
        "computed": used.ru_utime + used.ru_stime,
        "bytes": used.ru_maxrss * 1024,
        "jobs": int(jobs[1]) if jobs else 0,
    }


def main() -> None:
    """Measure each size and print a line each; exit 1 where one is over its bound."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cells", type=int, nargs="*", default=list(BOUNDS))
    options.add_argument("--made", action="store_true", help="with the artifacts of all but one")
    options.add_argument("--profile", help="write a cProfile file here (its time is not a result)")
    options.add_argument("--pretend", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.pretend:
        pretend(chosen.pretend)
        return
    over = False
    print("| cells | jobs | seconds | CPU seconds | peak memory |\n| --- | --- | --- | --- | --- |")
    for cells in chosen.cells:
        with tempfile.TemporaryDirectory() as place:
            prepare(Path(place), cells, chosen.made)
            found = measure(Path(place), chosen.profile)
        seconds, held = BOUNDS.get(cells, (float("inf"), float("inf")))
        over |= found["computed"] > seconds or found["bytes"] > held
        print(
            f"| {cells:,} | {found['jobs']:,} | {found['seconds']:.1f} | {found['computed']:.1f} "
            f"| {found['bytes'] / 1e6:.0f} MB |",
            flush=True,
        )
    sys.exit(int(over))


if __name__ == "__main__":
    main()
