"""The speed of pruning: `python benchmarks/pruning/run.py --help`; README.md says what is measured.

Every measurement is a process of its own; the two sides of a line take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import environment
import floor
import subject
from lines import LINES, Line
from table import table

HERE = Path(__file__).resolve().parent
LIBRARY = HERE.parents[1] / "workflow" / "lib"


def main() -> int:
    """Measure the lines asked for, print the table; 1 where a result is not what it must be."""
    asked = _arguments()
    chosen = [line for line in LINES if not asked.only or any(o in line.name for o in asked.only)]
    with tempfile.TemporaryDirectory(prefix="prunegrid-bench-") as scratch:
        folder = Path(scratch)
        subject.write(folder)
        rates = floor.measured_rates()
        done: dict[str, list[dict[str, Any]]] = {}
        # A run serves every line that it is a side of, so that nothing is measured twice.
        for turn in range(asked.rounds):
            for line in chosen:
                for work in (line.other, line.ours):
                    if len(done.setdefault(work, [])) == turn:
                        done[work].append(_measure(folder, work))
        faults = [f for work, runs in done.items() for f in _faults(work, runs)]
        agreements = {line.name: _agreement(folder, line) for line in chosen}
        faults += [
            f"{line.name}: only {agreements[line.name]:.4%} of the masks are equal"
            for line in chosen
            if line.masks_equal and agreements[line.name] < line.masks_equal
        ]
    text = table(chosen, done, rates, agreements)
    print(text)
    if asked.json:
        asked.json.write_text(json.dumps(done, indent=1))
    print(*faults, sep="\n", file=sys.stderr)
    return bool(faults)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="turns of each side (default 2)")
    parser.add_argument("--only", nargs="*", help="lines whose name holds one of these")
    parser.add_argument("--json", type=Path, help="write every measurement here")
    return parser.parse_args()


def _measure(folder: Path, work: str) -> dict[str, Any]:
    """Return what one process measured of "SIDE METHOD PATTERN HOW"."""
    side, method, pattern, how = work.split()
    result = _result(folder, work)
    if side == "llm-compressor":
        command = [environment.python(), HERE / "theirs.py", folder, method, pattern, result]
    else:
        command = [sys.executable, HERE / "ours.py", folder, f"{method} {pattern} {how}", result]
    variables = {
        **os.environ,
        "PYTHONPATH": str(LIBRARY) if side == "prunegrid" else "",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    # In the scratch folder: llm-compressor writes logs where it is started.
    ran = subprocess.run(
        [str(part) for part in command], env=variables, cwd=folder, capture_output=True, text=True
    )
    if ran.returncode:
        raise SystemExit(f"{work} failed:\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}")
    facts = json.loads(result.read_text())
    print(f"{work}: {facts['cpu_s']:.1f} s, {facts['peak_mb']:.0f} MB", file=sys.stderr, flush=True)
    return facts


def _result(folder: Path, work: str) -> Path:
    return folder / f"{work.replace(' ', '_').replace(':', '-').replace('%', '')}.json"


def _faults(work: str, runs: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong with the pruned weights."""
    last, found = runs[-1], []
    if last["linears"] != subject.LINEARS:
        found.append(f"{work}: {last['linears']} linears and not {subject.LINEARS}")
    # The papers' code drops one weight more for every block of columns that it compares.
    if abs(last["sparsity_lowest"] - 0.5) > 2e-3 or abs(last["sparsity_highest"] - 0.5) > 2e-3:
        found.append(f"{work}: sparsity {last['sparsity_lowest']}…{last['sparsity_highest']}")
    if last["broken_groups"]:
        found.append(f"{work}: {last['broken_groups']} groups are not 2:4")
    return found


def _agreement(folder: Path, line: Line) -> float:
    one, other = (_result(folder, work).with_suffix(".npz") for work in (line.ours, line.other))
    return subject.agreement(one, other)


if __name__ == "__main__":
    sys.exit(main())
