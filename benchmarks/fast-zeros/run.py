"""Linears with zeros: torch dense and CSR, scipy CSR, and packed weights by every kernel.

    python benchmarks/fast-zeros/run.py                       # one token, then 256
    python benchmarks/fast-zeros/run.py --threads 2 --tokens 1 --zeros 0.5 0.7

All forms of one sparsity are in memory together and take turns, `--rounds` times; the fewest
milliseconds of each count. One thread is measured in CPU time, more in wall time.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow/lib"))

import torch  # noqa: E402 - it needs the path above
from works import SHAPES, Work, works  # noqa: E402

PREFILL_ROUNDS = 3


def cpu() -> str:
    """Return the name, family and model of this machine's processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    facts = {name.strip(): value.strip() for name, _, value in (li.partition(":") for li in lines)}
    name = facts.get("model name", platform.processor())
    return f"{name}, family {facts.get('cpu family', '?')} model {facts.get('model', '?')}"


def read_rate(clock: Callable[[], float], rounds: int) -> float:
    """Return how fast memory is read, GB/s: the best of a sum over 1 GB of float32."""
    values = torch.ones(2**28)
    best = float("inf")
    for _ in range(rounds):
        began = clock()
        values.sum()
        best = min(best, clock() - began)
    return values.nbytes / best / 1e9


def measure(found: dict[str, Work], clock: Callable[[], float], rounds: int) -> dict[str, float]:
    """Return the fewest seconds of each work, taken in turns."""
    best = dict.fromkeys(found, float("inf"))
    for work in found.values():
        work.run()
    for _ in range(rounds):
        for name, work in found.items():
            began = clock()
            work.run()
            best[name] = min(best[name], clock() - began)
    return best


def print_table(
    tokens: int, times: float, found: dict[str, Work], best: dict[str, float], rate: float
) -> None:
    """Print milliseconds, the ratio to torch's best dense form, and what of memory was reached.

    Args:
        times: by what seconds are multiplied to stand for the whole model.
        rate: at which a sum reads memory, GB/s; the bound is this, or what a form reached if more.
    """
    rate = max(rate, *(found[name].read / seconds / 1e9 for name, seconds in best.items()))
    dense = min(seconds for name, seconds in best.items() if found[name].is_dense)
    columns = ["form", "ms", "× torch's best dense"]
    columns += ["GB/s", "of the bound"] if tokens == 1 else []
    print(f"| {' | '.join(columns)} |\n" + "| --- " * len(columns) + "|")
    for name, seconds in best.items():
        line = f"| {name} | {1e3 * seconds * times:.1f} | {dense / seconds:.2f} |"
        if tokens == 1:
            reached = found[name].read / seconds / 1e9
            line += f" {reached:.1f} | {reached / rate:.0%} |"
        print(line)
    sys.stdout.flush()


def main() -> None:
    """Print a table for each shape, share of zeros and number of tokens."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--zeros", type=float, nargs="+", default=[0.0, 0.5, 0.7, 0.9])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 256])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--skip", nargs="*", default=[], help="forms whose names have these words")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="Sparse CSR")
    torch.set_num_threads(options.threads)
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    rate = read_rate(clock, options.rounds)
    kind = "CPU time" if options.threads == 1 else "wall time"
    print(f"{cpu()}; torch {torch.__version__}; {options.threads} threads, {kind}")
    print(f"a sum reads memory at {rate:.1f} GB/s; load before the run: {os.getloadavg()[0]:.1f}")
    for shape in options.shapes:
        for zeros in options.zeros:
            for tokens in options.tokens:
                found = works(shape, zeros, tokens)
                found = {n: w for n, w in found.items() if not any(s in n for s in options.skip)}
                rounds = options.rounds if tokens < 64 else PREFILL_ROUNDS
                best = measure(found, clock, rounds)
                print(f"\n{shape}, {zeros:.0%} zeros, tokens: {tokens}\n")
                print_table(tokens, SHAPES[shape].whole, found, best, rate)
    print(f"\nload after the run: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
