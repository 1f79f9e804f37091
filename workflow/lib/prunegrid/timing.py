"""What running a checkpoint costs here: seconds of prefill and of decoding, memory, energy.

Prefill is one forward pass over the prompts that fills the cache; decoding is the greedy loop of
single tokens after it, for a fixed number of tokens (an EOS does not end it), so both have the
same amount of work whatever the weights write.
"""

from __future__ import annotations

import logging
import statistics
import time
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from prunegrid import clock, energy
from prunegrid.forward import forward_parameters
from prunegrid.meters import peak_memory, synchronize

log = logging.getLogger(__name__)


def once(model: nn.Module, ids: torch.Tensor, new_tokens: int, device: str) -> tuple[float, float]:
    """Return the wall seconds of prefill and of decoding `new_tokens` for one batch.

    The first new token comes out of prefill; decoding makes the `new_tokens` − 1 others.

    Args:
        ids: prompts [batch, prompt_tokens], without pads.
    """
    keep = {"logits_to_keep": 1} if "logits_to_keep" in forward_parameters(model) else {}
    with clock.running("efficiency"), torch.inference_mode():
        synchronize(device)
        began = time.perf_counter()
        out = model(input_ids=ids, use_cache=True, **keep)
        token = out.logits[:, -1:].argmax(-1)
        synchronize(device)
        filled = time.perf_counter()
        for _ in range(new_tokens - 1):
            out = model(
                input_ids=token, past_key_values=out.past_key_values, use_cache=True, **keep
            )
            token = out.logits[:, -1:].argmax(-1)
        synchronize(device)
    return filled - began, time.perf_counter() - filled


def quartiles(values: list[float]) -> dict[str, float]:
    """Return median, q1 and q3 (inclusive method; all equal for one value)."""
    if len(values) == 1:
        return {"median": values[0], "q1": values[0], "q3": values[0]}
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "q1": low, "q3": high}


def measure(model: nn.Module, settings: dict, device: str) -> tuple[dict, dict]:
    """Return the summary and the raw repetitions of a checkpoint's speed, memory and energy.

    Args:
        model: on `device`, in eval mode.
        settings: warmup, repetitions, prompt_tokens, new_tokens, batch_size.

    Returns:
        {prefill_seconds, prefill_tokens_per_second, decode_tokens_per_second: {median, q1, q3},
        peak_memory_bytes, energy_joules, energy_method}, and the seconds of every repetition:
        {prefill_seconds: [...], decode_seconds: [...]}. The joules are those of one repetition, on
        average, None where they cannot be measured (see `prunegrid.energy`).
    """
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    batch, length, new = (settings[k] for k in ("batch_size", "prompt_tokens", "new_tokens"))
    # Any tokens cost the same; the same ones each time are drawn.
    generator = torch.Generator().manual_seed(0)
    rows = inner.get_input_embeddings().num_embeddings
    ids = torch.randint(rows, (batch, length), generator=generator).to(device)
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    prefill, decode, joules, meter = [], [], [], energy.meter(device)
    total = settings["warmup"] + settings["repetitions"]
    for turn in tqdm(range(total), disable=None, unit="run"):
        if turn == settings["warmup"]:
            joules.append(meter.joules())
        first, rest = once(model, ids, new, device)
        log.info("run %d of %d: prefill %.3f s, decode %.3f s", turn + 1, total, first, rest)
        if turn >= settings["warmup"]:
            prefill.append(first)
            decode.append(rest)
            joules.append(meter.joules())
    summary = {
        "prefill_seconds": quartiles(prefill),
        "prefill_tokens_per_second": quartiles([batch * length / s for s in prefill]),
        "decode_tokens_per_second": quartiles([batch * (new - 1) / s for s in decode]),
        "peak_memory_bytes": peak_memory(device),
        "energy_joules": None if None in joules else (joules[-1] - joules[0]) / len(decode),
        "energy_method": meter.method,
    }
    return summary, {"prefill_seconds": prefill, "decode_seconds": decode}
