"""CPU seconds of a training step, plain and masked, and shares of pads, of this tree and another.

python benchmarks/training/run.py
python benchmarks/training/run.py --before ../older-tree
python benchmarks/training/run.py --sizes 2 128 1024 --tokens 64 --steps 1
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
ISAS = {
    "native": {},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}


def cpu() -> str:
    """Return the name of this machine's processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def measured(tree: Path, isa: str, *arguments: str) -> dict:
    """Return what a process of its own measures of the library of a tree."""
    environment = {**os.environ, **ISAS[isa], "PYTHONPATH": str(tree / "workflow/lib")}
    command = [sys.executable, str(HERE.with_name("worker.py")), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="a work tree of another commit")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs=3,
        default=[6, 576, 9830],
        metavar=("LAYERS", "WIDTH", "VOCABULARY"),
    )
    parser.add_argument("--tokens", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    import torch

    trees = {"before": arguments.before} if arguments.before else {}
    trees["now"] = ROOT
    shared = ["--sizes", *map(str, arguments.sizes), "--tokens", *map(str, arguments.tokens)]
    shared += ["--steps", str(arguments.steps)]
    print(f"{cpu()}, torch {torch.__version__}, one thread\n")
    print("| instructions | precision | tokens | strategy | tree | plain | masked | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    for isa, precision in (("native", "float32"), ("native", "bfloat16"), ("AVX2", "float32")):
        if precision == "bfloat16" and not native:
            print("| native | bfloat16 | emulated here: not measured ||||||")
            continue
        cast = ["--bfloat16"] if precision == "bfloat16" else []
        found = {name: measured(tree, isa, *shared, *cast) for name, tree in trees.items()}
        for tokens in map(str, arguments.tokens):
            for strategy in ("full", "lora", "qlora"):
                for name in trees:
                    values = found[name][tokens]
                    plain, masked = values[strategy], values[f"{strategy} masked"]
                    print(
                        f"| {isa} | {precision} | {tokens} | {strategy} | {name} "
                        f"| {plain:.3f} | {masked:.3f} | {masked / plain:.2f} |",
                        flush=True,
                    )
    print("\n| pads, % of computed positions | " + " | ".join(trees) + " |")
    print("|---" * (len(trees) + 1) + "|")
    found = {name: measured(tree, "native", *shared, "--pads") for name, tree in trees.items()}
    for size in found["now"]["training"]:
        row = " | ".join(f"{100 * found[name]['training'][size]:.1f}" for name in trees)
        print(f"| training, {size} rows a batch | {row} |")
    for case in found["now"]["generation"]:
        for part in ("prompts", "past the end"):
            row = " | ".join(f"{100 * found[name]['generation'][case][part]:.1f}" for name in trees)
            rows, size = case.split("/")
            print(f"| generation, {rows} rows in batches of {size}: {part} | {row} |")


if __name__ == "__main__":
    main()
