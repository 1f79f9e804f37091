"""The timing of a cell beside the untouched model below it, in one process.

Where the cell's weights have another format (bfloat16, int8, NF4), the untouched model in that
format takes its turns too. With `form: packed` the cell runs packed, the untouched model dense.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunegrid.common.cpu_counters import Machine
from prunegrid.common.precision import of_job
from prunegrid.evaluation import (
    disturbance,
    packed_form,
    peak_memory,
    speed,
    speed_ratio,
    timed_work,
)
from prunegrid.evaluation.speed import CELL
from prunegrid.models import open_checkpoint
from prunegrid.models.checkpoint import Checkpoint
from prunegrid.models.loading import compute_in

MEMORY = {
    "cpu": "largest resident size of a process of its own, loading and attestation included",
    "cuda": "largest memory allocated by torch in a process of its own, weights included",
}


def measure(
    stage: str, settings: Mapping[str, Any], parents: Mapping[str, Path], job: Any
) -> tuple[Checkpoint, dict[str, Any], dict[str, Any]]:
    """Return (the cell's checkpoint, facts for the record, every repetition and turn).

    Args:
        stage: "efficiency" or "passes".
        settings: of the stage.
        parents: weights; `dense`, the untouched model, where the cell is another.

    Raises:
        PrunegridError: the model has too few positions.
    """
    device, kept = job.device, settings["cache_dequantized"]
    bytes_alone = peak_memory.alone(stage, parents["weights"], settings, job)
    loaded = open_checkpoint.load(parents["weights"], device, kept, compute_dtype=of_job(job))
    packed, form = packed_form.load(parents["weights"], settings["packed"], device)
    models = _untouched(parents["dense"], loaded, job, kept) if "dense" in parents else {}
    if packed is not None:
        models.setdefault("dense", loaded.model)  # the untouched model runs beside its packed self
    models[CELL] = loaded.model if packed is None else packed
    works = {
        name: timed_work.WORKS[stage](model, settings, device, job.where)
        for name, model in models.items()
    }
    machine = Machine()
    turns, method = speed.measure(works, settings, device, machine)
    own = speed.of_model(turns, CELL)
    facts = speed.summary(own, works[CELL].tokens) | {
        "form": form,
        "energy_method": method,
        "peak_memory_bytes": bytes_alone,
        "peak_memory_is": MEMORY[device.partition(":")[0]],
        "pairs": len(own) if len(models) > 1 else None,
        "versus": {name: speed_ratio.ratios(turns, CELL, name) for name in models if name != CELL},
        "disturbed": disturbance.reasons(turns, machine.capacity, device, machine.quota),
        "alone": job.alone,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "settings": dict(settings),
    }
    every = {"repetitions": speed.repetitions(own), "turns": [turn._asdict() for turn in turns]}
    return loaded, facts, every


def _untouched(folder: Path, cell: Checkpoint, job: Any, kept: bool) -> dict[str, nn.Module]:
    """Return the untouched model, and one in the cell's format where that is another."""
    dtype, device = of_job(job), job.device
    dense = open_checkpoint.load(folder, device, kept, compute_dtype=dtype)
    precision = cell.record["precision"]
    models = {"dense": dense.model}
    if precision != dense.record["precision"]:
        same = in_format(folder, precision, cell.model, device, kept)
        models["dense_same_format"] = compute_in(same, dtype)
    return models


def in_format(
    folder: Path, precision: str, like: nn.Module, device: str, kept: bool = False
) -> nn.Module:
    """Return the model of a plain folder in another format, as the pipeline itself makes it.

    Args:
        precision: "float32", "bfloat16", "int8" or "nf4".
        like: a model of that format, which says how NF4's scales are kept.
        kept: keep dequantized weights in memory.
    """
    if precision in ("float32", "bfloat16"):
        plain = open_checkpoint.load(folder, device, attest=False).model
        # Not `model.to`, which would round rotary frequencies too, as no stored model has them.
        for parameter in plain.parameters():
            parameter.data = parameter.data.to(getattr(torch, precision))
        return plain
    from prunegrid.models import quantized

    how = getattr(like.config, "quantization_config", None)
    double = bool(getattr(how, "bnb_4bit_use_double_quant", True))
    plain = quantized.plain_linears(like)
    model = quantized.quantize(folder, device, precision, double, plain)
    quantized.hold_weights(model, kept)
    return model


def sizes_on_disk(
    loaded: Checkpoint, settings: Mapping[str, Any], out: Path, where: str, gzipped: bool
) -> dict | None:
    """Return the bytes of a checkpoint in several forms (`evaluation.sizes`) if `sizes` is set."""
    if not settings["sizes"]:
        return None
    # Imported here: their imports would take memory while models are timed.
    from prunegrid.evaluation import sizes
    from prunegrid.models.packed import plain_tensors

    plain = plain_tensors.of(loaded)
    return sizes.measure(plain, loaded.record["pattern"], out, where, gzipped)
