"""LoRA: an adapter trained over frozen weights, then merged or kept beside them.

By default the product is under the pruning mask from the first step on and merged into a plain
folder (`prunegrid.models.masked_lora`; PERP, Zimmer et al. 2023, arXiv 2312.15230, calls it
MaskLoRA). `prunegrid.finetuning.adapters` explains the other values of `adapter`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from prunegrid.common.errors import PrunegridError
from prunegrid.finetuning import adapters
from prunegrid.finetuning.training import run_facts, sparsity
from prunegrid.models import checkpoint, masked_lora, split_checkpoint

if TYPE_CHECKING:
    from prunegrid.finetuning.context import Context

CITE = ("hu2022lora", "zimmer2023perp")
TRAINS = True
FITS = ("causal-lm", "seq2seq-lm", "masked-lm", "encoder")
KEYS = ("preserve_zeros", "adapter", "rank", "alpha", "dropout", "targets")
ADAPTERS = ("merged", "unmerged", "unmasked", "masked-after")
PLAIN = {"adapter": ("merged", "masked-after")}
MEMORY = 12
HELD = 4

# Largest difference of logits between adapter and merged model, as a share of the largest logit.
MERGE_TOLERANCE = 1e-3


def tune(context: Context, settings: dict) -> tuple[run_facts.TrainFacts, checkpoint.Checkpoint]:
    """Return the training facts and the checkpoint of the folder written.

    Raises:
        PrunegridError: the merged model computes something else than base + adapter.
    """
    base, adapter = context.checkpoint.model, settings["adapter"]
    dtype = base.dtype
    base.float()
    model, facts = adapters.train(context, base, context.targets(), settings)
    if adapter in adapters.BESIDE:
        return facts, split_checkpoint.save(model, **context.destination, dtype=dtype)
    before = probe(model, context) if adapter == "merged" else None
    loss = adapters.tuning_loss(model, context)
    merged = masked_lora.merge(model)
    if before is not None:
        _require_same(before, probe(merged, context), context)
    elif context.masks:
        sparsity.masker(merged, context.masks)[0]()
    merged.to(dtype)
    saved = checkpoint.write_plain(merged, **context.destination, adapter="merged")
    after = adapters.tuning_loss(saved.model.to(context.device), context)
    context.facts |= {"merge_loss_before": loss, "merge_loss_after": after}
    return facts, saved


def _require_same(before: torch.Tensor, after: torch.Tensor, context: Context) -> None:
    difference = float((before - after).abs().max() / before.abs().max().clamp(min=1e-6))
    if not difference <= MERGE_TOLERANCE:
        raise PrunegridError(
            f"merging the adapter changed the logits by {difference:.2g} of the largest",
            where=context.where,
            expected=f"at most {MERGE_TOLERANCE}",
        )
    context.facts["merge_difference"] = difference


def probe(model: nn.Module, context: Context) -> torch.Tensor:
    """Return the logits of the first training example, [tokens, vocabulary] float32."""
    row = context.examples[0]
    ids = torch.tensor([row.prompt + row.response], device=context.device)
    with torch.no_grad(), context.as_one_sequence(model):
        return model(input_ids=ids, use_cache=False).logits[0].float()
