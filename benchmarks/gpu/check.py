"""Check prunegrid on one GPU in at most 8 minutes: `make gpu-check`. README.md explains each line.

    python benchmarks/gpu/check.py                       # on a GPU
    python benchmarks/gpu/check.py --device cpu --small  # the same steps on a CPU, in a minute

Needs torch, transformers, safetensors and numpy; it uses peft, bitsandbytes and pytest if they are
installed.
The exit status is 1 where a line differs from what is expected, 2 where nothing can be checked.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from report import Row, failed, not_run, table

HERE = Path(__file__).resolve().parent
# Cheap ones first; each is a process of its own.
KINDS = ("gpu_tests", "sparse", "tuning", "agreement", "seconds")
FILES = tuple(HERE / f"{kind}.py" for kind in KINDS)
# Seconds after which no line begins, seconds after which everything ends, and a kind's own limit.
LAST_START, END, OF_A_KIND = 420.0, 480.0, 180.0
NEEDED = {"torch": "2.11", "transformers": "5.17", "safetensors": "0.6", "numpy": "2.0"}
OPTIONAL = ("peft", "bitsandbytes", "accelerate", "pytest")
# No hub, no bars, and no compiler for what bitsandbytes would have compiled.
QUIET = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TORCHDYNAMO_DISABLE": "1"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything, print the table, write the JSON; return the exit status."""
    asked = _parser().parse_args(arguments)
    fault = missing(asked.device)
    if fault:
        print(fault, file=sys.stderr)
        return 2
    device = "cpu" if asked.device == "cpu" else "cuda:0"
    began = time.monotonic()
    facts = machine(device)
    print(title(facts, device), flush=True)
    chosen = [path for path in FILES if not asked.only or path.stem in asked.only]
    rows = run_kinds(chosen, device, asked.small)
    found = {
        "is_gpu": device != "cpu",
        "small": asked.small,
        "machine": facts,
        "seconds": round(time.monotonic() - began, 1),
        "rows": [{"kind": kind, **asdict(row)} for kind, row in rows],
    }
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(found, indent=1))
    every = [row for _, row in rows]
    wrong = sum(row.differs for row in every)
    print(f"\n{table(every)}\n")
    print(f"{wrong} of {len(every)} lines differ; {found['seconds']:.0f} s; {asked.json}")
    return int(wrong > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="small models: a test of this script")
    parser.add_argument("--only", nargs="*", choices=KINDS, help="some kinds of lines")
    parser.add_argument("--json", type=Path, default=HERE.parents[1] / "results" / "gpu-check.json")
    return parser


def missing(device: str) -> str:
    """Return the sentence that says why nothing can be checked, "" where something can."""
    if sys.version_info < (3, 11):  # noqa: UP036 - a GPU machine may have an older one
        return f"gpu-check needs Python 3.11 or newer; this is {platform.python_version()}."
    for package, least in NEEDED.items():
        installed = version(package)
        if installed is None:
            return f"gpu-check needs {package} {least} or newer, which is not installed."
        if _numbers(installed) < _numbers(least):
            return f"gpu-check needs {package} {least} or newer; {installed} is installed."
    if device == "cpu":
        return ""
    import torch

    if torch.cuda.is_available():
        return ""
    return (
        f"gpu-check needs an NVIDIA GPU, and torch {torch.__version__} sees none here; "
        "`--device cpu --small` tries the script itself on the CPU."
    )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def version(package: str) -> str | None:
    """Return the installed version of a package, None without it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine(device: str) -> dict[str, Any]:
    """Return what the figures depend on: versions, processor, GPU."""
    facts: dict[str, Any] = {name: version(name) for name in (*NEEDED, *OPTIONAL)}
    facts |= {"python": platform.python_version(), "cpu": _cpu(), "cores": _cores()}
    if device != "cpu":
        import torch

        properties = torch.cuda.get_device_properties(0)
        facts |= {
            "gpu": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "gpu_memory_mb": properties.total_memory // 2**20,
            "cuda": torch.version.cuda,
        }
    return facts


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return name[1] if name else platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def title(facts: dict[str, Any], device: str) -> str:
    """Return the line above the table."""
    versions = f"torch {facts['torch']}, transformers {facts['transformers']}"
    if device == "cpu":
        return f"This is not a GPU: the CPU ({facts['cpu']}) is compared with itself; {versions}."
    return (
        f"{facts['gpu']} (compute capability {facts['capability']}, "
        f"{facts['gpu_memory_mb'] / 1024:.0f} GB), CUDA {facts['cuda']}, {versions}."
    )


def run_kinds(
    files: Sequence[Path],
    device: str,
    small: bool,
    *,
    last_start: float = LAST_START,
    end: float = END,
    of_a_kind: float = OF_A_KIND,
) -> list[tuple[str, Row]]:
    """Return (kind, row) of every line of some files, one process a file.

    Args:
        last_start: seconds from now after which no line begins.
        end: seconds from now after which a process that still runs is killed.
        of_a_kind: the most seconds of one process.
    """
    began, rows = time.monotonic(), []
    for path in files:
        spent = time.monotonic() - began
        if spent > last_start:
            rows.append((path.stem, not_run(path.stem, "time")))
            continue
        limit = min(of_a_kind, end - spent)
        starts = min(last_start - spent, limit)
        rows += [(path.stem, row) for row in run_kind(path, device, small, starts, limit)]
    return rows


def run_kind(path: Path, device: str, small: bool, starts: float, limit: float) -> list[Row]:
    """Return the rows of one file's checks, those that its process did not come to among them.

    Args:
        starts: seconds after which none of its checks begins.
        limit: seconds after which its process is killed.
    """
    print(f"{path.stem} …", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="prunegrid-gpu-") as scratch:
        place, log = Path(scratch) / "rows", Path(scratch) / "log"
        command = [sys.executable, HERE / "worker.py", path, place, "--device", device]
        command += ["--seconds", f"{starts:.1f}", *(["--small"] if small else [])]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **QUIET},
                start_new_session=True,
            )
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                _stop(process)
        return _rows(path.stem, _entries(place), status, log.read_text(errors="replace")[-4000:])


def _stop(process: subprocess.Popen) -> None:
    """Kill a process and those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _entries(place: Path) -> list[dict[str, Any]]:
    lines = place.read_text().splitlines(keepends=True) if place.exists() else []
    # A process that was killed may have left half a line.
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _rows(kind: str, entries: list[dict], status: int | None, log: str) -> list[Row]:
    """Return the rows that a process wrote, and one for each check that it did not end.

    Args:
        status: its exit status, None where it was killed for its time.
    """
    rows = [Row(**entry["row"]) for entry in entries if "row" in entry]
    done = {entry["done"] for entry in entries if "done" in entry}
    planned = next((entry["planned"] for entry in entries if "planned" in entry), [kind])
    left = [name for name in planned if name not in done]
    if not left and status:
        left = [kind]  # all its lines are there, and it ended badly: that is told
    for name in left:
        if name is not left[0]:
            rows.append(not_run(name, "its process had ended"))
        elif status is None:
            rows.append(failed(name, "it did not end in its time", log))
        else:
            rows.append(failed(name, f"its process ended with status {status}", log))
    return rows


if __name__ == "__main__":
    sys.exit(main())
