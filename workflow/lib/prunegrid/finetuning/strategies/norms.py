"""Training of vectors alone, norms and biases: no weight of a linear changes, so no zero can.

PERP, Zimmer et al. 2023, arXiv 2312.15230: retraining the parameters of norms and the biases of
linears, well under 1% of all, recovers much of what pruning took, without gradients of matrices and
with next to no optimizer state. Every parameter of at most one dimension is trained (a norm's gain
and bias, a linear's bias, a scale by channel), inside the blocks and outside. All matrices stay as
they are, byte by byte.

Deviations: PERP also tries the head and LoRA beside them; here LoRA is a strategy of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from prunegrid.common.errors import PrunegridError
from prunegrid.finetuning.training import run_facts
from prunegrid.models import checkpoint

if TYPE_CHECKING:
    from prunegrid.finetuning.context import Context

CITE = ("zimmer2023perp",)
TRAINS = True
FITS = ("causal-lm", "seq2seq-lm", "masked-lm", "encoder")
KEYS = ()
MEMORY = 8


def choose(model: nn.Module, where: str) -> list[str]:
    """Freeze all parameters but vectors; return the names of those.

    Raises:
        PrunegridError: the model has none (OLMo's first kind: norms without gains, no biases).
    """
    chosen = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.dim() <= 1)
        if parameter.requires_grad:
            chosen.append(name)
    if not chosen:
        raise PrunegridError(
            f"{type(model).__name__} has neither biases nor norms with parameters",
            where=where,
            expected="some for strategy norms to train",
            remedy="use strategy lora or full",
        )
    return chosen


def tune(context: Context, settings: dict) -> tuple[run_facts.TrainFacts, checkpoint.Checkpoint]:
    """Return the training facts and the checkpoint of the plain folder written."""
    model, adapter = context.checkpoint.model, context.checkpoint.record["adapter"]
    dtype = model.dtype
    # In float32 for the vectors' sake; the matrices come back from it bit by bit.
    model.float()
    names = choose(model, context.where)
    trained = sum(model.get_parameter(name).numel() for name in names)
    context.facts["trained_parameters"] = trained
    facts = context.train(model)
    model.to(dtype)
    return facts, checkpoint.write_plain(model, **context.destination, adapter=adapter)
