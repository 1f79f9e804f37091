"""LoRA: an adapter trained over frozen weights, then merged or kept beside them.

By default the product is under the pruning mask from the first step on and merged into a plain
folder (`prunegrid.models.masked_lora`; PERP, Zimmer et al. 2023, arXiv 2312.15230, calls it
MaskLoRA). The other ways of `adapter` are said in `prunegrid.finetuning.adapters`.
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

TRAINS = True
KEYS = ("preserve_zeros", "adapter", "rank", "alpha", "dropout", "targets")
ADAPTERS = ("merged", "unmerged", "unmasked", "masked-after")
PLAIN = {"adapter": ("merged", "masked-after")}
MEMORY = 12
HELD = 4

# Largest difference of logits between adapter and merged model, as a share of the largest logit.
MERGE_TOLERANCE = 1e-3


def tune(context: Context, settings: dict) -> tuple[run_facts.TrainFacts, checkpoint.Checkpoint]:
    """Return the training facts and the folder written, read back.

    Raises:
        PrunegridError: the merged model computes something else than base + adapter.
    """
    parent, way = context.checkpoint, settings["adapter"]
    dtype, pattern = parent.model.dtype, parent.record["pattern"]
    parent.model.float()
    model, facts = adapters.train(context, parent.model, context.targets(), settings)
    if way in adapters.BESIDE:
        return facts, split_checkpoint.save(
            model, parent.tokenizer, context.out, pattern, dtype=dtype, extent=context.extent
        )
    before = probe(model, context) if way == "merged" else None
    loss = adapters.tuning_loss(model, context)
    merged = masked_lora.merge(model)
    if before is not None:
        _require_same(before, probe(merged, context), context)
    elif context.masks:
        sparsity.masker(merged, context.masks)[0]()
    merged.to(dtype)
    saved = checkpoint.write_plain(
        merged, parent.tokenizer, context.out, pattern, adapter="merged", extent=context.extent
    )
    # On what was saved and read back: that is the model which the merge has left.
    after = adapters.tuning_loss(saved.model.to(context.device), context)
    adapters.record_merge(context, loss, after)
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
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits[0].float()
