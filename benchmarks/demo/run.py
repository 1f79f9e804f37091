#!/usr/bin/env python3
"""Run the demo in a scratch folder and print where its time goes.

    .venv/bin/python benchmarks/demo/run.py [--cores 2] [--memory 6000] [--keep FOLDER]

It prints CPU seconds by stage, the share that is start-up, how busy the cores were, the most
memory that was used at one time, and the precision that tunings computed in. A CPU without AVX-512
and bfloat16 is played by ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 before the command.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import psutil

from prunegrid.commands import run
from prunegrid.common import machine

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_S = 2.0


def main() -> int:
    """Run the demo and print its costs; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", type=int, default=machine.cores())
    parser.add_argument("--memory", type=int, help="MB of all jobs (default: the machine's)")
    parser.add_argument("--keep", type=Path, help="a folder for the results, which stays")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="demo-") as place:
        folder = options.keep or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        command = run.command("demo", cores=options.cores, memory_mb=options.memory)
        status, wall, peak = watched(command, folder)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print("\n".join(report(folder, wall, used.ru_utime + used.ru_stime, peak, options.cores)))
        began = time.monotonic()
        subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True)
        print(f"a second run, which does nothing: {time.monotonic() - began:.1f} s")
    return status


def environment() -> dict[str, str]:
    """Return the environment of a run of this very checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "workflow/lib")}


def watched(command: list[str], folder: Path) -> tuple[int, float, float]:
    """Return (exit status, wall seconds, peak of memory in MB) of a command and its children."""
    began, peak, over = time.monotonic(), 0.0, threading.Event()
    process = subprocess.Popen(command, cwd=folder, env=environment())

    def sample() -> None:
        nonlocal peak
        while not over.wait(SAMPLE_S):
            peak = max(peak, memory_mb(process.pid))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    status = process.wait()
    over.set()
    thread.join()
    return status, time.monotonic() - began, peak


def memory_mb(pid: int) -> float:
    """Return what a process and its children hold, pages they share counted once, in MB."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for one in family:
        try:
            total += one.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 1e6


def report(folder: Path, wall: float, cpu: float, peak: float, cores: int) -> list[str]:
    """Return the lines of what the demo cost."""
    stages: dict[str, list[float]] = defaultdict(list)
    precision, memory = set(), defaultdict(float)
    for path in sorted(folder.glob("results/artifacts/*/*/manifest.json")):
        manifest = json.loads(path.read_bytes())
        stages[manifest["stage"]].append(manifest["cpu_seconds"])
        memory[manifest["stage"]] = max(
            memory[manifest["stage"]], manifest["peak_memory_bytes"] / 1e6
        )
        if manifest["stage"] == "finetune":
            precision.add(manifest["compute_dtype"])
    counted = sum(map(sum, stages.values()))
    lines = [
        f"CPU: {processor()}; tunings computed in {', '.join(sorted(precision)) or 'nothing'}",
        "| stage | jobs | CPU s each | CPU s in all | peak MB |",
        "|---|---|---|---|---|",
    ]
    for stage, spent in sorted(stages.items(), key=lambda item: -sum(item[1])):
        each = sum(spent) / len(spent)
        lines.append(
            f"| {stage} | {len(spent)} | {each:.1f} | {sum(spent):.0f} | {memory[stage]:,.0f} |"
        )
    lines += [
        f"| Snakemake, the table, jobs' ends | | | {cpu - counted:.0f} | |",
        f"| all | {sum(map(len, stages.values()))} | | {cpu:.0f} | {peak:,.0f} at one time |",
        f"wall {wall / 60:.1f} min; cores busy {cpu / (wall * cores):.0%} of {cores}",
    ]
    return lines


def processor() -> str:
    """Return the processor's name, and what oneDNN was told to use of it."""
    name = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return f"{name}, {psutil.cpu_count()} cores" + (f", limited to {limit}" if limit else "")


if __name__ == "__main__":
    sys.exit(main())
