"""Full fine-tuning: every weight is trained, and the mask is applied again after every step.

What is learned from a row is the model's task (`prunegrid.finetuning.training.objectives`).

Weights are trained in float32 whatever the artifact's dtype is, and saved in the artifact's dtype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunegrid.finetuning.training import run_facts
from prunegrid.models import checkpoint

if TYPE_CHECKING:
    from prunegrid.finetuning.context import Context

CITE: tuple[str, ...] = ()  # none: plain training of all weights
TRAINS = True
FITS = ("causal-lm", "seq2seq-lm", "masked-lm", "encoder")
KEYS = ("preserve_zeros",)
MEMORY = 16
COPY = 4


def tune(context: Context, settings: dict) -> tuple[run_facts.TrainFacts, checkpoint.Checkpoint]:
    """Return the training facts and the checkpoint of the plain folder written."""
    model = context.checkpoint.model
    dtype = model.dtype
    model.float()
    facts = context.train(model, context.masks)
    model.to(dtype)
    return facts, checkpoint.write_plain(model, **context.destination)
