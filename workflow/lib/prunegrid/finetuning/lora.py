"""LoRA with its product under the mask, merged into a plain folder at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from prunegrid import checkpoint, masked_lora, training
from prunegrid.errors import PrunegridError

if TYPE_CHECKING:
    from prunegrid.stages.finetune import Context

# Largest difference of logits between adapter and merged model, as a share of the largest logit.
MERGE_TOLERANCE = 1e-3


def tune(context: Context, settings: dict) -> tuple[training.TrainFacts, dict]:
    """Return the training facts and the WEIGHTS RECORD of the merged plain folder written.

    Raises:
        PrunegridError: the merged model computes something else than base + adapter.
    """
    parent = context.checkpoint
    dtype = parent.model.dtype
    parent.model.float()
    with context.seeded():
        model = masked_lora.wrap(parent.model, context.targets(), context.masks, settings)
    facts = context.train(model)
    before = probe(model, context)
    merged = masked_lora.merge(model)
    after = probe(merged, context)
    difference = float((before - after).abs().max() / before.abs().max().clamp(min=1e-6))
    if not difference <= MERGE_TOLERANCE:
        raise PrunegridError(
            f"merging the adapter changed the logits by {difference:.2g} of the largest",
            where=context.where,
            expected=f"at most {MERGE_TOLERANCE}",
        )
    context.facts["merge_difference"] = difference
    merged.to(dtype)
    record = checkpoint.save_plain(
        merged, parent.tokenizer, context.out, parent.record["pattern"], adapter="merged"
    )
    return facts, record


def probe(model: nn.Module, context: Context) -> torch.Tensor:
    """Return the logits of the first training example, [tokens, vocabulary] float32."""
    row = context.examples[0]
    ids = torch.tensor([row.prompt + row.response], device=context.device)
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits[0].float()
