"""Full fine-tuning of an encoder-decoder: strategy `full`, which must be given such a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunegrid.finetuning.strategies import full
from prunegrid.finetuning.training import run_facts
from prunegrid.models import checkpoint

if TYPE_CHECKING:
    from prunegrid.finetuning.context import Context

CITE: tuple[str, ...] = ()  # none: plain training of all weights
TRAINS = True
FITS = ("seq2seq-lm",)
KEYS = ("preserve_zeros",)
MEMORY = 16
COPY = 4


def tune(context: Context, settings: dict) -> tuple[run_facts.TrainFacts, checkpoint.Checkpoint]:
    """Return the training facts and the checkpoint of the plain folder written."""
    return full.tune(context, settings)
