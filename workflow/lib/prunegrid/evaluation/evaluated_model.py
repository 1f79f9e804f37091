"""The model of an evaluation: attested weights of any form, with the tokenizer of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prunegrid.common.errors import PrunegridError
from prunegrid.models import open_checkpoint
from prunegrid.models.checkpoint import Checkpoint


def load(
    folder: Path, settings: Mapping[str, Any], job: Any, fits: Callable[[Any], bool], needs: str
) -> Checkpoint:
    """Return the checkpoint of a weights artifact, measured in memory, on the job's device.

    Args:
        settings: of the step; `cache_dequantized` is read where it has that.
        fits: whether the evaluation can use the model.
        needs: the error where it cannot, or where the model has no tokenizer.

    Raises:
        AttestationError: the weights are not those of the artifact's record.
        PrunegridError: see `needs`.
    """
    cached = settings.get("cache_dequantized", False)
    loaded = open_checkpoint.load(folder, job.device, cached, compute_dtype=job.compute_dtype)
    if loaded.tokenizer is None or not fits(loaded.model):
        raise PrunegridError(needs, where=str(folder))
    return loaded


def is_language_model(model: Any) -> bool:
    """Return whether a model predicts tokens."""
    return hasattr(model, "get_output_embeddings")
