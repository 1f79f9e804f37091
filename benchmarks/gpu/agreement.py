"""Masks and perplexities of a GPU against the CPU's, in float32 on the same weights and tokens.

The bounds come from two CPU runs that differ as a GPU and a CPU do, in the order of their sums
(AVX-512 and AVX2), and from one whose products were rounded to TF32; README.md has the figures.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import smollm
import torch
from report import Row, judged
from torch import Tensor, nn
from torch.nn import functional
from worker import Check, Setting

from prunegrid.blocks import find_blocks
from prunegrid.kept import keep_masks
from prunegrid.perplexity import plan_windows, window_losses
from prunegrid.pruning.engine import prune_model
from prunegrid.pruning.recipe import Recipe
from prunegrid.runtime import settle_torch

CELLS = (("wanda", "50%"), ("wanda", "2:4"), ("sparsegpt", "50%"), ("sparsegpt", "2:4"))
WINDOWS = 8
# Least shares of equal masks, in the first block (whose inputs are the same but for rounding) and
# in all blocks (where one flipped weight changes all later inputs); largest |ratio - 1| of
# perplexities.
FIRST, ALL, PERPLEXITY = (
    {"wanda": 0.9998, "sparsegpt": 0.9998},
    {"wanda": 0.99, "sparsegpt": 0.9},
    {"wanda": 0.01, "sparsegpt": 0.02},
)
DENSE = 1e-5
# Of float32 products, to float64; TF32's are 1e-3.
ROUNDING = 2e-5


@dataclass(frozen=True)
class Result:
    """What pruning on one device gave: masks on the CPU by linear, those of the first block."""

    masks: dict[str, Tensor]
    first: frozenset[str]
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


def cell(method: str, pattern: str, setting: Setting) -> Iterator[Row]:
    """Yield shares of equal masks and the ratio of perplexities of one method and pattern."""
    settle_torch(_threads(setting))
    here, there = (pruned(method, pattern, d, setting.small) for d in ("cpu", setting.device))
    name = f"{method} {pattern}"
    firsts = here.first
    yield _share(f"{name}: equal masks, first block", here, there, firsts, FIRST[method])
    yield _share(f"{name}: equal masks, all blocks", here, there, here.masks.keys(), ALL[method])
    yield _perplexities(name, here.perplexity, there.perplexity, PERPLEXITY[method])


def dense(setting: Setting) -> Iterator[Row]:
    """Yield the ratio of the perplexities of the untouched model."""
    settle_torch(_threads(setting))
    found = []
    for device in ("cpu", setting.device):
        model = smollm.build(setting.small).to(device)
        found.append(perplexity(model))
    yield _perplexities("dense", *found, DENSE)


def pruned(method: str, pattern: str, device: str, small: bool) -> Result:
    """Return what pruning the model on a device gives, sequentially as in the papers."""
    model = smollm.build(small).to(device)
    samples, length = (8, 32) if small else (8, 256)
    tokens = smollm.draw(model.config.vocab_size, samples, length, seed=1)
    recipe = Recipe(method, "2:4") if pattern == "2:4" else Recipe(method, sparsity=0.5)
    prune_model(model, recipe, tokens=tokens)
    masks = {name: mask.cpu() for name, mask in keep_masks(model, recipe.pattern).items()}
    blocks = find_blocks(model)
    first = frozenset(blocks.linears[blocks.names[0]])
    return Result(masks, first, perplexity(model))


def perplexity(model: nn.Module) -> float:
    """Return the perplexity over random windows."""
    window = min(257, model.config.max_position_embeddings // 2 + 1)
    text = smollm.draw(model.config.vocab_size, 1, WINDOWS * window, seed=2)[0].tolist()
    plan = plan_windows(len(text), "nonoverlap", window, None, WINDOWS)
    losses = window_losses(model, text, plan, "gpu-check")
    return math.exp(sum(losses) / sum(part.scored for part in plan))


def _share(line: str, here: Result, there: Result, names, least: float) -> Row:
    equal = sum(int((here.masks[name] == there.masks[name]).sum()) for name in names)
    total = sum(here.masks[name].numel() for name in names)
    return judged(line, 100 * equal / total, low=100 * least, form="{:.3f}", unit="%")


def _perplexities(name: str, here: float, there: float, most: float) -> Row:
    line = f"{name}: perplexity, to the CPU's"
    numbers = {"cpu": here, "device": there}
    return judged(line, there / here, 1 - most, 1 + most, form="{:.6f}", **numbers)


def _threads(setting: Setting) -> int:
    """Return torch's threads for the CPU's side."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(usable or 1, 16) if setting.on_gpu else 1


CHECKS = [
    Check("float32 products", rounding),
    Check("dense", dense),
    *(Check(" ".join(names), functools.partial(cell, *names)) for names in CELLS),
]
