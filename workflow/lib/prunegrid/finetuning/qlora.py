"""QLoRA: masked adapters over an NF4 (or int8) base, saved unmerged.

Dettmers et al. 2023, arXiv 2305.14314: NF4, double quantization, adapters on all linears of a
block. Deviations: the adapter's product is under the pruning mask (`prunegrid.masked_lora`); the
weights that are not quantized stay in the artifact's dtype; no paged optimizer; the product is
taken with the dequantized weight in the compute dtype, on CPU and CUDA alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from prunegrid import masked_lora, quantized, training

if TYPE_CHECKING:
    from prunegrid.stages.finetune import Context


def tune(context: Context, settings: dict) -> tuple[training.TrainFacts, dict]:
    """Return the training facts and the WEIGHTS RECORD of the quantized folder written."""
    parent = context.checkpoint
    tokenizer, pattern = parent.tokenizer, parent.record["pattern"]
    masks, names = context.masks, context.targets()
    # The plain model was attested and gave the masks; the base is quantized from its files.
    context.checkpoint = None
    del parent
    base = quantized.quantize(
        context.folder, context.device, settings["quantization"], settings["double_quant"]
    )
    with context.seeded():
        model = masked_lora.wrap(base, names, masks, settings)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    facts = context.train(model)
    return facts, quantized.save(model, tokenizer, context.out, pattern)
