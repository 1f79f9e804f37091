"""Stage `efficiency`: speed, memory and size of a checkpoint, in this job's own fresh process.

Parent: weights. Out: `efficiency.json` with every repetition: the one artifact whose bytes are a
measurement and differ from run to run. Sizes on disk (`sizes: true`) are taken last, so that they
are in no time and in no peak of memory; the files that they are measured on are removed.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from prunegrid import artifacts, checkpoint, evaluated, forward, sparse_kernels, timing
from prunegrid.errors import PrunegridError

MEMORY = {
    "cpu": "largest resident size of the whole process, loading and attestation included",
    "cuda": "largest memory allocated by torch while generating, weights included",
}


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record: medians and quartiles, peak memory, energy, sizes, threads."""
    require_sizes(settings, job.where)
    loaded = evaluated.load(parents["weights"], job.device, settings["cache_dequantized"])
    limit = forward.max_positions(loaded.model)
    needed = settings["prompt_tokens"] + settings["new_tokens"]
    if limit is not None and needed > limit:
        raise PrunegridError(
            f"prompt_tokens + new_tokens is {needed}",
            where=job.where,
            expected=f"at most the model's {limit} positions",
        )
    summary, raw = timing.measure(loaded.model, settings, job.device)
    sparse, sparse_raw = _sparse(loaded.model, settings, job.device)
    sized = _sizes(loaded, out, job.where) if settings["sizes"] else None
    kind = "cuda" if job.device.startswith("cuda") else "cpu"
    facts = {
        **summary,
        "peak_memory_is": MEMORY[kind],
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(job.device) if kind == "cuda" else "cpu",
        "settings": settings,
        "sparse_kernels": sparse,
        "sizes": sized,
    }
    repetitions = {"repetitions": raw, "sparse_kernel_repetitions": sparse_raw}
    artifacts.write_json(out / "efficiency.json", {**facts, **repetitions})
    weights = loaded.record
    return {
        "weights": weights,
        "parameters": weights["parameters"],
        "nonzero_parameters": weights["nonzero_parameters"],
        "file_bytes": weights["file_bytes"],
        **facts,
    }


def _sizes(loaded: checkpoint.Checkpoint, out: Path, where: str) -> dict:
    """Return the bytes of the checkpoint in several forms (see `prunegrid.packing.sizes`)."""
    # Not before: what they import would be in the peak of memory of every row.
    from prunegrid.packing import plain, sizes

    return sizes.measure(plain.of(loaded), loaded.record["pattern"], out, where)


def _sparse(model: torch.nn.Module, settings: dict, device: str) -> tuple[dict | None, dict | None]:
    """Return {linears, prefill_…, decode_tokens_per_second} of sparse kernels, and repetitions.

    Nones where the device has none; without speeds where no linear is fit for them.
    """
    with sparse_kernels.running(model, device) as linears:
        if linears is None:
            return None, None
        if not linears:
            return {"linears": 0}, None
        summary, raw = timing.measure(model, settings, device)
    speeds = ("prefill_tokens_per_second", "decode_tokens_per_second")
    return {"linears": linears, **{name: summary[name] for name in speeds}}, raw


def require_sizes(settings: dict, where: str) -> None:
    """Check that there is something to measure.

    Raises:
        PrunegridError: no repetition, or fewer than 2 new tokens (the first comes from prefill).
    """
    least = {"warmup": 0, "repetitions": 1, "prompt_tokens": 1, "new_tokens": 2, "batch_size": 1}
    for name, bound in least.items():
        if settings[name] < bound:
            raise PrunegridError(
                f"efficiency.{name} is {settings[name]}", where=where, expected=f"at least {bound}"
            )
