"""Loading a checkpoint for an evaluation: plain weights, packed ones, or a base with adapter."""

from __future__ import annotations

from pathlib import Path

from prunegrid.common import model_family
from prunegrid.common.gc_pause import importing
from prunegrid.models import checkpoint, loading
from prunegrid.models.causality import require_causal
from prunegrid.models.checkpoint import Checkpoint
from prunegrid.models.loading import compute_in


def load(
    folder: Path,
    device: str = "cpu",
    cache_dequantized: bool = False,
    attest: bool = True,
    compute_dtype: str = "bfloat16",
    asked_by: str | None = None,
    where: str = "",
) -> Checkpoint:
    """Return the checkpoint of any weights artifact, measured in memory (see `checkpoint.load`).

    Args:
        cache_dequantized: see `quantized.hold_weights`; decoding on the CPU is about twice as fast.
        compute_dtype: narrower weights are widened once they are attested.
        asked_by: the stage that asks the model, which must fit its task; None asks nothing.
        where: label for errors.

    Raises:
        PrunegridError: the stage does not fit; or, of a causal model, its tokens see later ones.
    """
    task = asked_by and loading.require_fit(folder, model_family.STAGES, asked_by, where)
    read, in_parts = None, checkpoint.is_in_parts(folder)
    if in_parts:
        # Imported only for such folders: it costs a second.
        with importing("peft"):
            from prunegrid.models import quantized, split_checkpoint
        read = split_checkpoint.read
    loaded = checkpoint.load(folder, device, attest, read)
    compute_in(loaded.model, compute_dtype)
    if in_parts:
        quantized.hold_weights(loaded.model, cache_dequantized)
    if task == "causal-lm":
        require_causal(loaded.model, where)
    return loaded
