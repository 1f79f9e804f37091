"""Loading what is evaluated: plain weights, packed ones, or a base with its adapter."""

from __future__ import annotations

from pathlib import Path

from prunegrid import checkpoint
from prunegrid.checkpoint import Checkpoint
from prunegrid.imports import importing


def load(
    folder: Path, device: str = "cpu", cache_dequantized: bool = False, attest: bool = True
) -> Checkpoint:
    """Return the checkpoint of any weights artifact, measured in memory (see `checkpoint.load`).

    Quantization and adapters are imported only for folders that have them: they cost a second, and
    stages that meet plain folders alone must not have them in their keys.

    Args:
        cache_dequantized: keep the sums of a base and its adapter in memory: the same
            numbers, about twice as fast a decoding on the CPU, for the memory of plain weights.
    """
    if not checkpoint.is_in_parts(folder):
        return checkpoint.load(folder, device, attest)
    with importing("peft"):
        from prunegrid import parts, quantized

    loaded = checkpoint.load(folder, device, attest, read=parts.read)
    quantized.hold_weights(loaded.model, cache_dequantized)
    return loaded
