"""Compare what steps ask for with what finished ones took; exit 1 if one took more."""

from __future__ import annotations

import argparse
from pathlib import Path

from prunegrid.running import history


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    steps = history.read(Path("results"))
    for stage, (count, memory, time) in history.tightest(steps).items():
        print(f"{stage:12} {count:4} steps: at most {memory:.0%} of memory, {time:.0%} of time")
    short = list(history.shortfalls(steps))
    for one, what, estimated, measured in short:
        unit = "MB" if what == "memory" else "minutes"
        print(f"too little {what}: {one.label}: asks {estimated:,.0f} {unit}, took {measured:,.0f}")
    print(f"{len(steps)} finished steps, {len(short)} took more than is asked for")
    return 1 if short else 0
