"""Stage `hessians`: the Hessians of a dense model's inputs, for all cells that prune by them.

Parents: model, calibration. Out: one file a block (`prunegrid.pruning.dense_statistics`).
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from prunegrid.models import checkpoint
from prunegrid.models.prunable import Extent
from prunegrid.pruning import offload
from prunegrid.pruning.dense_statistics import write_hessians

DOES = "calibrate"
PACKAGES = ("plain weights",)
COMPUTES = True
BYTES_A_PARAMETER = 7.5
BY_BLOCK = True


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {linears, samples, length, weights_sha256}.

    Args:
        settings: {include: patterns of linears outside the blocks that are measured too}.
        parents: {"model": a plain weights artifact, "calibration": of the same model}.

    Raises:
        PrunegridError: activations are not finite, or a linear is not reached.
    """
    checkpoint.require_plain(parents["model"], job.where)
    tokens = load_file(parents["calibration"] / "tokens.safetensors")["tokens"]
    dense = offload.open_dense(parents["model"], job)
    return {
        "linears": write_hessians(
            dense.model.eval(), tokens, out, extent=Extent.of(settings), holding=dense.holding
        ),
        "samples": len(tokens),
        "length": tokens.shape[1],
        "weights_sha256": dense.record["sha256"],
    }
