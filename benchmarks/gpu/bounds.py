"""What rounding alone does to masks and perplexities: where the bounds of agreement.py come from.

    python benchmarks/gpu/bounds.py --seed 0 --seed 1   # 6 to 8 CPU minutes a seed, one thread

Each cell is pruned by three processes of one CPU: as it is, with AVX2 only (sums in another
order), and with the inputs of all products rounded to TF32. It needs an x86 CPU with AVX-512.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "workflow" / "lib")]

import agreement  # noqa: E402
import smollm  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402

from prunegrid.common.determinism import settle_torch  # noqa: E402

AVX2 = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
MODES = {"plain": {}, "AVX2": AVX2, "TF32": {}}


def tf32(tensor: Tensor) -> Tensor:
    """Return a float32 tensor with 10 bits of mantissa, rounded; others as they are."""
    if tensor.dtype != torch.float32:
        return tensor
    return ((tensor.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


class RoundedProducts(TorchFunctionMode):
    """While entered, linears, matrix products and the sums of Hessians have TF32's inputs."""

    def __torch_function__(self, func, types, args=(), kwargs=None) -> Any:
        """Return what the function gives."""
        if func in (torch.nn.functional.linear, torch.mm):
            args = (tf32(args[0]), tf32(args[1]), *args[2:])
        elif func is torch.Tensor.addmm_:
            args = (args[0], tf32(args[1]), tf32(args[2]), *args[3:])
        return func(*args, **(kwargs or {}))


def prune(mode: str, seed: int, small: bool, out: Path) -> None:
    """Write the masks and perplexities of one mode."""
    settle_torch(1)
    smollm.SEED = seed
    with RoundedProducts() if mode == "TF32" else contextlib.nullcontext():
        found = {
            ("dense inputs", name): result
            for name, result in agreement.together("cpu", small).items()
        }
        found |= {
            ("sequential", name): agreement.alone(name, "cpu", small) for name in agreement.CELLS
        }
    tensors = {}
    for (way, name), result in found.items():
        tensors |= {f"{way}/{name}/{linear}": mask for linear, mask in result.masks.items()}
        tensors[f"{way}/{name}/"] = torch.tensor(result.perplexity, dtype=torch.float64)
    save_file(tensors, out)


def read(path: Path) -> dict[tuple[str, str], dict[str, Tensor]]:
    """Return (way, cell) → masks by linear, and the perplexity under ""."""
    found: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key, tensor in load_file(path).items():
        way, name, linear = key.split("/")
        found.setdefault((way, name), {})[linear] = tensor
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, action="append", help="of weights (default 0)")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("MODE", "OUT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    seeds = asked.seed or [0]
    if asked.one:
        prune(asked.one[0], seeds[0], asked.small, Path(asked.one[1]))
        return
    print("| seed | way | cell | mode | unequal masks | perplexity's ratio - 1 |")
    print("|---|---|---|---|---|---|")
    for seed in seeds:
        with tempfile.TemporaryDirectory() as scratch:
            _compare(seed, asked.small, Path(scratch))


def _compare(seed: int, small: bool, scratch: Path) -> None:
    """Print the rows of one seed."""
    results = {}
    for mode, variables in MODES.items():
        out = scratch / mode
        command = [sys.executable, __file__, "--seed", str(seed), "--one", mode, str(out)]
        subprocess.run(
            command + ["--small"] * small,
            check=True,
            env={**os.environ, **variables, "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"},
        )
        results[mode] = read(out)
    for mode in ("AVX2", "TF32"):
        for (way, name), here in results["plain"].items():
            there = results[mode][way, name]
            ratio = float(there.pop("") / here[""]) - 1
            unequal = sum(int((mask != here[linear]).sum()) for linear, mask in there.items())
            share = unequal / sum(mask.numel() for mask in there.values())
            print(f"| {seed} | {way} | {name} | {mode} | {share:.5%} | {ratio:.1e} |", flush=True)


if __name__ == "__main__":
    main()
