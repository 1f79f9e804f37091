"""Training: what a step learns from, its loss, the loop, its checkpoints, the choice of a rate."""

from prunegrid.finetuning.training.checkpoints import Store
from prunegrid.finetuning.training.dataset import Reader, count_learned
from prunegrid.finetuning.training.distributed import current
from prunegrid.finetuning.training.divergence import Diverged
from prunegrid.finetuning.training.learning_rates import train
from prunegrid.finetuning.training.loss import mean_loss, summed_loss
from prunegrid.finetuning.training.rate_schedule import rate_factor
from prunegrid.finetuning.training.run_facts import TrainFacts
from prunegrid.finetuning.training.token_batches import (
    IGNORED,
    Example,
    batches,
    collate,
    plan,
    positions,
)

__all__ = [
    "IGNORED",
    "Diverged",
    "Example",
    "Reader",
    "Store",
    "TrainFacts",
    "batches",
    "collate",
    "count_learned",
    "current",
    "mean_loss",
    "plan",
    "positions",
    "rate_factor",
    "summed_loss",
    "train",
]
