"""Full fine-tuning: every weight is trained, and the mask is applied again after every step.

Weights are trained in float32 whatever the artifact's dtype is, and saved in the artifact's dtype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunegrid import checkpoint, training

if TYPE_CHECKING:
    from prunegrid.stages.finetune import Context

TRAINS = True
KEYS = ("sparsity",)
MEMORY = 28
COPY = 4


def tune(context: Context, settings: dict) -> tuple[training.TrainFacts, checkpoint.Checkpoint]:
    """Return the training facts and the plain folder written, read back."""
    parent = context.checkpoint
    model = parent.model
    dtype = model.dtype
    model.float()
    facts = context.train(model, context.masks)
    model.to(dtype)
    return facts, checkpoint.write_plain(
        model,
        parent.tokenizer,
        context.out,
        parent.record["pattern"],
        adapter="none",
        extent=context.extent,
    )
