"""What becomes of an adapter: the ways of `adapter`, shared by the strategies that train one.

`merged`: the product is under the pruning mask from the first step on, and is added into the
weights at the end. `unmerged`: the same product, kept beside the base. `unmasked`: a plain product
(Hu et al. 2021, arXiv 2106.09685) beside the base, whose zeros stay; those of the sum do not.
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

# Ways under the mask in training, and ways that leave the adapter beside its base.
MASKED = ("merged", "unmerged")
BESIDE = ("unmerged", "unmasked")
# Tuning rows over which the loss before and after a merge is taken.
MERGE_ROWS = 64


def train(
    context: Context, base: nn.Module, names: list[str], settings: dict
) -> tuple[nn.Module, run_facts.TrainFacts]:
    """Return the base with trained float32 adapters on the named linears, and the facts."""
    masks = context.masks if settings["adapter"] in MASKED else {}
    with context.seeded():
        model = masked_lora.wrap(base, names, masks, settings)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    quantized.hold_weights(model, context.holds)
    return model, context.train(model)


def tuning_loss(model: nn.Module, context: Context) -> float:
    """Return the mean loss (nats a scored token) over the first MERGE_ROWS tuning rows.

    Never under autocast: a merge is measured in the dtype of the weights themselves.
    """
    rows, settings = context.examples[:MERGE_ROWS], context.settings | {"autocast": "float32"}
    return loss.mean_loss(model, rows, settings, context.pad, context.device)


def record_merge(context: Context, before: float, after: float) -> None:
    """Record what merging cost: the loss of base + adapter, and of what it was merged into."""
    context.facts |= {"merge_loss_before": before, "merge_loss_after": after}
