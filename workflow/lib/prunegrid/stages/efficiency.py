"""Stage `efficiency`: speed, memory and size of a checkpoint, beside the untouched model's speed.

Parents: weights; `dense`, the untouched model of the chain, where the weights are others. Out:
`efficiency.json` with every repetition and every turn: the one artifact whose bytes are a
measurement and differ from run to run. Sizes on disk (`sizes: true`) are taken last, so that they
are in no time; the files that they are measured on are removed.
"""

from __future__ import annotations

from pathlib import Path

import torch

from prunegrid.common import file_io
from prunegrid.evaluation import side_by_side, speed, timed_work
from prunegrid.evaluation.speed import CELL
from prunegrid.models import checkpoint, sparse_kernels

DOES = "efficiency"
RULE = "efficiency"
PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "scipy",
    "peft",
    "bitsandbytes",
)
COMPUTES = True
GROUP = "evaluate"
START_SECONDS = 15
MEASURES_MEMORY = True


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record: medians and quartiles, ratios to dense, memory, energy, sizes, threads."""
    loaded, facts, every = side_by_side.measure("efficiency", settings, parents, job)
    sparse, sparse_raw = time_sparse_kernels(loaded.model, settings, job.device)
    facts["sparse_kernels"] = sparse
    facts["sizes"] = _sizes(loaded, out, job.where) if settings["sizes"] else None
    every["sparse_kernel_repetitions"] = sparse_raw
    file_io.write_json(out / "efficiency.json", {**facts, **every})
    weights = loaded.record
    return {
        "weights": weights,
        "parameters": weights["parameters"],
        "nonzero_parameters": weights["nonzero_parameters"],
        "file_bytes": weights["file_bytes"],
        **facts,
    }


def _sizes(loaded: checkpoint.Checkpoint, out: Path, where: str) -> dict:
    """Return the bytes of the checkpoint in several forms (see `prunegrid.evaluation.sizes`)."""
    # Not before: what they import takes memory while models are timed.
    from prunegrid.evaluation import sizes
    from prunegrid.models.packed import plain_tensors

    return sizes.measure(plain_tensors.of(loaded), loaded.record["pattern"], out, where)


def time_sparse_kernels(
    model: torch.nn.Module, settings: dict, device: str
) -> tuple[dict | None, dict | None]:
    """Return {linears, prefill_…, decode_tokens_per_second} of sparse kernels, and repetitions.

    Nones where the device has none; without speeds where no linear is fit for them.
    """
    with sparse_kernels.running(model, device) as linears:
        if linears is None:
            return None, None
        if not linears:
            return {"linears": 0}, None
        work = timed_work.generation(model, settings, device, "sparse kernels")
        turns, _ = speed.measure({CELL: work}, settings, device)
    summary = speed.summary(turns, work.tokens)
    speeds = ("prefill_tokens_per_second", "decode_tokens_per_second")
    found = {"linears": linears, **{name: summary[name] for name in speeds}}
    return found, speed.repetitions(turns)
