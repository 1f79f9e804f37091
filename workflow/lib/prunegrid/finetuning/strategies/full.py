"""Full fine-tuning: every weight is trained, and the mask is applied again after every step.

Weights are trained in float32 whatever the artifact's dtype is, and saved in the artifact's dtype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunegrid.finetuning.training import run_facts
from prunegrid.models import checkpoint

if TYPE_CHECKING:
    from prunegrid.finetuning.context import Context

TRAINS = True
KEYS = ("preserve_zeros",)
MEMORY = 16
COPY = 4


def tune(context: Context, settings: dict) -> tuple[run_facts.TrainFacts, checkpoint.Checkpoint]:
    """Return the training facts and the plain folder written, read back."""
    facts = train_in_float32(context)
    return facts, written(context)


def train_in_float32(context: Context) -> run_facts.TrainFacts:
    """Train the parent's model under the masks in float32, and give it its dtype again."""
    model = context.checkpoint.model
    dtype = model.dtype
    model.float()
    facts = context.train(model, context.masks)
    model.to(dtype)
    return facts


def written(context: Context) -> checkpoint.Checkpoint:
    """Return the plain folder of the parent's model as it is now, read back."""
    parent = context.checkpoint
    return checkpoint.write_plain(
        parent.model,
        parent.tokenizer,
        context.out,
        parent.record["pattern"],
        adapter="none",
        extent=context.extent,
    )
