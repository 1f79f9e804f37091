"""Masks and perplexities of a GPU against the CPU's, in float32 on the same weights and tokens.

Two ways. With the dense model's inputs nothing passes from block to block, so masks and perplexity
agree closely. Sequentially, as in the papers, one weight that flips by rounding changes all later
inputs, and more weights flip there: a few blocks agree well, thirty would say little.

The bounds come from two CPU runs that differ as a GPU and a CPU do, in the order of their sums
(AVX-512 and AVX2), and from one whose products were rounded to TF32; README.md has the figures.
"""

from __future__ import annotations

import copy
import functools
import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import smollm
import torch
from report import Row, judged
from torch import Tensor, nn
from torch.nn import functional
from worker import Check, Setting

from prunegrid.common.determinism import settle_torch
from prunegrid.evaluation.perplexity import plan_windows, window_losses
from prunegrid.models.blocks import find_blocks, oriented, prunable
from prunegrid.pruning.dense_statistics import StoredHessians, write_hessians
from prunegrid.pruning.layerwise import prune_model
from prunegrid.pruning.recipe import Recipe

CELLS = {
    "wanda 50%": Recipe("wanda", sparsity=0.5),
    "wanda 2:4": Recipe("wanda", "2:4"),
    "sparsegpt 50%": Recipe("sparsegpt", sparsity=0.5),
    "sparsegpt 2:4": Recipe("sparsegpt", "2:4"),
}
# By method: least share of equal masks, largest |ratio - 1| of perplexities.
DENSE_INPUTS = {"wanda": (0.99999, 0.0005), "sparsegpt": (0.9998, 0.005)}
SEQUENTIAL = {"wanda": (0.998, 0.002), "sparsegpt": (0.9, 0.06)}
BLOCKS = 4  # of the sequential way
UNTOUCHED = 1e-5  # |ratio - 1| of the dense model's perplexities
ROUNDING = 2e-5  # of float32 products, to float64; of TF32's it is above 1e-4
WINDOWS = 8


@dataclass(frozen=True)
class Result:
    """What pruning on one device gave: masks by linear (True = kept, on the CPU), perplexity."""

    masks: dict[str, Tensor]
    perplexity: float


def rounding(setting: Setting) -> Iterator[Row]:
    """Yield the error of float32 products to float64: whether TF32 is off where it counts."""
    settle_torch(1)
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(256, 1024, generator=generator) for _ in range(2))
    q, k, v = (torch.randn(1, 4, 256, 64, generator=generator) for _ in range(3))
    products = {
        "linear": (functional.linear, (x, w)),
        "addmm": (_gram, (x,)),
        "attention": (functional.scaled_dot_product_attention, (q, k, v)),
    }
    for name, (product, inputs) in products.items():
        exact = product(*(t.double() for t in inputs))
        found = product(*(t.to(setting.device) for t in inputs)).cpu().double()
        off = float((found - exact).abs().max() / exact.abs().max())
        yield judged(f"float32 {name}: largest error", off, high=ROUNDING, form="{:.1e}")


def _gram(x: Tensor) -> Tensor:
    """Return XᵀX as the Hessians are summed."""
    return torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype, device=x.device).addmm_(x.t(), x)


def untouched(setting: Setting) -> Iterator[Row]:
    """Yield the ratio of the perplexities of the dense model."""
    settle_torch(_threads(setting))
    here, there = (perplexity(_model(setting.small, d)) for d in ("cpu", setting.device))
    yield _perplexities("dense", here, there, UNTOUCHED)


def dense_inputs(setting: Setting) -> Iterator[Row]:
    """Yield what agrees of all cells where each is pruned by the dense model's inputs."""
    settle_torch(_threads(setting))
    here, there = (together(d, setting.small) for d in ("cpu", setting.device))
    for name in CELLS:
        yield from _compared(name, "dense inputs", here[name], there[name], DENSE_INPUTS)


def sequential(name: str, setting: Setting) -> Iterator[Row]:
    """Yield what agrees of one cell where each block gets the inputs that pruned ones give."""
    settle_torch(_threads(setting))
    here, there = (alone(name, d, setting.small) for d in ("cpu", setting.device))
    yield from _compared(name, "sequential", here, there, SEQUENTIAL)


@torch.no_grad()
def together(device: str, small: bool) -> dict[str, Result]:
    """Return cell → what pruning by the dense model's inputs gives on a device."""
    model = _model(small, device)
    dense = {n: oriented(m).clone() for n, m in prunable(model).items()}
    tokens, results = _tokens(model, small), {}
    with tempfile.TemporaryDirectory() as folder:
        write_hessians(model, tokens, Path(folder))
        stored = StoredHessians(Path(folder), device)
        blocks = range(len(find_blocks(model).names))
        norms = {n: s.input_norms for i in blocks for n, s in stored.block(i, False).items()}
        for name, recipe in CELLS.items():
            for linear, module in prunable(model).items():
                oriented(module).copy_(dense[linear])
            prune_model(
                model, recipe, tokens=tokens, norms=norms, propagation="dense", hessians=stored
            )
            masks = {n: (oriented(m) != 0).cpu() for n, m in prunable(model).items()}
            results[name] = Result(masks, perplexity(model))
    return results


def alone(name: str, device: str, small: bool) -> Result:
    """Return what pruning the first blocks sequentially gives on a device."""
    model = _model(small, device, min(BLOCKS, smollm.blocks(small)))
    prune_model(model, CELLS[name], tokens=_tokens(model, small))
    masks = {n: (oriented(m) != 0).cpu() for n, m in prunable(model).items()}
    return Result(masks, perplexity(model))


@functools.cache
def _dense(small: bool, blocks: int) -> nn.Module:
    return smollm.build(small, num_hidden_layers=blocks)


def _model(small: bool, device: str, blocks: int | None = None) -> nn.Module:
    """Return a dense model on a device; the same weights each time."""
    return copy.deepcopy(_dense(small, blocks or smollm.blocks(small))).to(device)


def _tokens(model: nn.Module, small: bool) -> Tensor:
    """Return calibration windows; more tokens than the widest input has channels."""
    return smollm.draw(model.config.vocab_size, 8, 32 if small else 256, seed=1)


def perplexity(model: nn.Module) -> float:
    """Return the perplexity over random windows."""
    window = min(257, model.config.max_position_embeddings // 2 + 1)
    text = smollm.draw(model.config.vocab_size, 1, WINDOWS * window, seed=2)[0].tolist()
    plan = plan_windows(len(text), "nonoverlap", window, None, WINDOWS)
    losses = window_losses(model, text, plan, "gpu-check")
    return math.exp(sum(losses) / sum(part.scored for part in plan))


def _compared(
    name: str, way: str, here: Result, there: Result, bounds: dict[str, tuple[float, float]]
) -> Iterator[Row]:
    """Yield the share of equal masks and the ratio of perplexities."""
    share, most = bounds[name.split()[0]]
    equal = sum(int((mask == there.masks[n]).sum()) for n, mask in here.masks.items())
    percent = 100 * equal / sum(mask.numel() for mask in here.masks.values())
    line = f"{name}, {way}"
    yield judged(f"{line}: equal masks", percent, low=100 * share, form="{:.3f}", unit="%")
    yield _perplexities(line, here.perplexity, there.perplexity, most)


def _perplexities(line: str, here: float, there: float, most: float) -> Row:
    """Return the row of a ratio of perplexities, the device's to the CPU's."""
    numbers = {"cpu": here, "device": there}
    bounds = (1 - most, 1 + most)
    return judged(
        f"{line}: perplexity, to the CPU's", there / here, *bounds, form="{:.6f}", **numbers
    )


def _threads(setting: Setting) -> int:
    """Return torch's threads for the CPU's side."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(usable or 1, 16) if setting.on_gpu else 1


CHECKS = [
    Check("float32 products", rounding),
    Check("dense", untouched),
    Check("dense inputs", dense_inputs),
    *(Check(f"{name}, sequential", functools.partial(sequential, name)) for name in CELLS),
]
