"""Stage `efficiency`: speed, memory and size of a checkpoint, beside the untouched model's speed.

Parents: weights; `dense`, the untouched model of the chain, where the weights are others. Out:
`efficiency.json` with every repetition and every turn: the one artifact whose bytes are a
measurement and differ from run to run. Sizes on disk (`sizes: true`) are measured last, so that
they are in no time.
"""

from __future__ import annotations

from pathlib import Path

import torch

from prunegrid.common import file_io
from prunegrid.common.model_family import STAGES
from prunegrid.evaluation import side_by_side, speed, timed_work
from prunegrid.evaluation.speed import CELL
from prunegrid.models import loading, sparse_kernels

PACKAGES = ("any weights", "scipy")
COMPUTES = True
GROUP = "evaluate"
START_SECONDS = 16  # two processes load both models
MEASURES_MEMORY = True
FITS = ("causal-lm",)


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record: medians and quartiles, ratios to dense, memory, energy, sizes, threads."""
    loading.require_fit(parents["weights"], STAGES, "efficiency", job.where)
    loaded, facts, every = side_by_side.measure("efficiency", settings, parents, job)
    sparse, sparse_raw = time_sparse_kernels(loaded.model, settings, job.device)
    facts["sparse_kernels"] = sparse
    facts["sizes"] = side_by_side.sizes_on_disk(loaded, settings, out, job.where, gzipped=False)
    every["sparse_kernel_repetitions"] = sparse_raw
    file_io.write_json(out / "efficiency.json", {**facts, **every})
    counts = ("parameters", "nonzero_parameters", "file_bytes")
    return {"weights": loaded.record, **{name: loaded.record[name] for name in counts}, **facts}


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
    facts = {"linears": linears, **{name: summary[name] for name in speeds}}
    return facts, speed.repetitions(turns)
