"""2:4 weights in the GPU's sparse kernels: how many linears, the same numbers, the time."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import smollm
import torch
from report import NotRun, Row, judged
from torch import nn
from worker import Check, Setting

from prunegrid.common.determinism import settle_torch
from prunegrid.evaluation import speed, timed_work
from prunegrid.models import sparse_kernels
from prunegrid.models.blocks import prunable
from prunegrid.pruning.layerwise import prune_model
from prunegrid.pruning.recipe import Recipe

BLOCKS = 4
# bfloat16 has steps of 0.4%; both kernels sum in float32 and round once a product.
LOGITS = 0.05
# A Llama of 7B's widths, two blocks of it, where products and not launches take the time.
LARGE = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 2,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 1024,
}
TIMING = {"warmup": 3, "repetitions": 10, "prompt_tokens": 2048, "new_tokens": 2, "batch_size": 2}
# No slower than dense, and no more than the hardware's twice as fast; 10% for the clock.
SPEED = (0.9, 2.2)


def same_numbers(setting: Setting) -> Iterator[Row]:
    """Yield how many linears run in sparse kernels, and how far the logits are from dense ones."""
    _require(setting.device)
    model = _pruned(smollm.build(setting.small, num_hidden_layers=BLOCKS), setting)
    ids = smollm.draw(model.config.vocab_size, 2, 64, seed=4).to(setting.device)
    with torch.inference_mode():
        dense = model(input_ids=ids, use_cache=False).logits.float()
        with sparse_kernels.running(model, setting.device) as count:
            sparse = model(input_ids=ids, use_cache=False).logits.float()
    linears = len(prunable(model))
    yield judged("2:4 kernels: linears that run in them", count, linears, linears, form="{:.0f}")
    off = float((sparse - dense).abs().max() / dense.abs().max())
    yield judged("2:4 kernels: largest difference of logits", off, high=LOGITS)


def speed_up(setting: Setting) -> Iterator[Row]:
    """Yield how much faster prefill is in sparse kernels, at the widths of a 7B model."""
    _require(setting.device)
    sizes = {} if setting.small else LARGE
    rounds = TIMING | ({"prompt_tokens": 32, "repetitions": 3} if setting.small else {})
    # Drawn where it runs: on a CPU this alone would take a minute.
    with torch.device(setting.device):
        model = smollm.build(setting.small, **sizes)
    model = _pruned(model, setting)
    medians = {"dense": _prefill_seconds(model, rounds, setting.device)}
    with sparse_kernels.running(model, setting.device) as count:
        medians["sparse"] = _prefill_seconds(model, rounds, setting.device)
    ratio = medians["dense"] / medians["sparse"]
    line = "2:4 kernels: prefill, times as fast as dense"
    bounds = SPEED if setting.on_gpu else (None, None)
    yield judged(line, ratio, *bounds, form="{:.2f}", linears=count, seconds=medians)


def _prefill_seconds(model: nn.Module, rounds: dict, device: str) -> float:
    """Return the median seconds of a prompt's pass."""
    work = timed_work.generation(model, rounds, device, "2:4 kernels")
    turns, _ = speed.measure({"model": work}, rounds, device)
    return statistics.median(turn.seconds["prefill"] for turn in turns)


def _require(device: str) -> None:
    """Check that the device has such kernels.

    Raises:
        NotRun: it has none.
    """
    if not sparse_kernels.allowed(device):
        least = ".".join(map(str, sparse_kernels.LEAST_CAPABILITY))
        raise NotRun(f"no GPU of compute capability {least} or later")


def _pruned(model: nn.Module, setting: Setting) -> nn.Module:
    """Return the model in bfloat16 on the device, pruned to 2:4 by magnitude."""
    settle_torch(1)
    model = model.to(setting.device, torch.bfloat16)
    prune_model(model, Recipe("magnitude", "2:4"))
    return model


CHECKS = [Check("2:4 kernels", same_numbers), Check("2:4 kernels, speed", speed_up)]
