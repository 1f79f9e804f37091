"""Training of adapters, and the values of `adapter`: where the product goes in the end.

`merged`: the product is under the pruning mask from the first step on, and is added into the
weights at the end. `unmerged`: the same product, beside the base. `unmasked`: a plain product (Hu
et al. 2021, arXiv 2106.09685) beside the base; the base keeps its zeros, the sum does not.
`masked-after`: a plain product, merged at the end and masked only then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from prunegrid.finetuning.training import loss, run_facts
from prunegrid.models import masked_lora, quantized

if TYPE_CHECKING:
    from prunegrid.finetuning.context import Context

# Values of `adapter`: under the mask in training; beside the base in the end.
MASKED = ("merged", "unmerged")
BESIDE = ("unmerged", "unmasked")
# Tuning rows whose loss is measured before and after a merge.
MERGE_ROWS = 16


def train(
    context: Context, base: nn.Module, names: list[str], settings: dict
) -> tuple[nn.Module, run_facts.TrainFacts]:
    """Return the base with trained float32 adapters on the named linears, and the facts."""
    masks = context.masks if settings["adapter"] in MASKED else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        model = masked_lora.wrap(base, names, masks, settings)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    quantized.hold_weights(model, context.holds)
    return model, context.train(model)


def tuning_loss(model: nn.Module, context: Context) -> float:
    """Return the mean loss (nats a scored token) over the first MERGE_ROWS tuning rows.

    Never under autocast: a merge changes weights in their own dtype.
    """
    rows, settings = context.first_rows(MERGE_ROWS), context.settings | {"autocast": "float32"}
    with context.as_one_sequence(model):
        return loss.mean_loss(model, rows, settings, context.pad, context.device)
