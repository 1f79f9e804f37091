"""Loading what is evaluated: plain weights, packed ones, or a base with its adapter."""

from __future__ import annotations

from pathlib import Path

from prunegrid.common.gc_pause import importing
from prunegrid.models import checkpoint
from prunegrid.models.checkpoint import Checkpoint
from prunegrid.models.loading import compute_in


def load(
    folder: Path,
    device: str = "cpu",
    cache_dequantized: bool = False,
    attest: bool = True,
    compute_dtype: str = "bfloat16",
) -> Checkpoint:
    """Return the checkpoint of any weights artifact, measured in memory (see `checkpoint.load`).

    Quantization and adapters are imported only for folders that have them: they cost a second, and
    stages that meet plain folders alone must not have them in their keys.

    Args:
        cache_dequantized: keep the sums of a base and its adapter in memory: the same
            numbers, about twice as fast a decoding on the CPU, for the memory of plain weights.
        compute_dtype: weights stored in less are widened once they are attested.
    """
    if not checkpoint.is_in_parts(folder):
        loaded = checkpoint.load(folder, device, attest)
        compute_in(loaded.model, compute_dtype)
        return loaded
    with importing("peft"):
        from prunegrid.models import quantized, split_checkpoint

    loaded = checkpoint.load(folder, device, attest, read=split_checkpoint.read)
    compute_in(loaded.model, compute_dtype)
    quantized.hold_weights(loaded.model, cache_dequantized)
    return loaded
