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
    """Return the training facts and the checkpoint of the plain folder written."""
    facts = train_in_float32(context)
    return facts, checkpoint.write_plain(context.checkpoint.model, **context.destination)


def train_in_float32(context: Context) -> run_facts.TrainFacts:
    """Train the parent's model under the masks in float32; give it its dtype again."""
    model = context.checkpoint.model
    dtype = model.dtype
    model.float()
    facts = context.train(model, context.masks)
    model.to(dtype)
    return facts
