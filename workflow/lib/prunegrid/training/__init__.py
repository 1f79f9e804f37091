"""Training: what a step learns from, its loss, the loop, its checkpoints, the choice of a rate."""

from prunegrid.training.examples import IGNORED, Example, batches, collate, plan, positions
from prunegrid.training.facts import TrainFacts
from prunegrid.training.guard import Diverged
from prunegrid.training.learned import Reader, count_learned
from prunegrid.training.loss import mean_loss, summed_loss
from prunegrid.training.schedule import rate_factor
from prunegrid.training.search import train
from prunegrid.training.store import Store
from prunegrid.training.world import current

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
