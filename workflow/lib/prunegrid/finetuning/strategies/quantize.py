"""Another precision, no training: float32, bfloat16, int8 or NF4, whatever was done before.

So precision is an axis of its own: dense and pruned, tuned or not, each in each precision. NF4 and
int8 pack the linears of the blocks alone and end the chain; the floats are plain weights of all
tensors. Zeros are exact in all four: the mask's stay, a code may add some (`sparsity_prunable`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from prunegrid.models import checkpoint, quantized, split_checkpoint

if TYPE_CHECKING:
    from prunegrid.finetuning.transform_context import Context

TRAINS = False
KEYS = ("precision", "double_quant")
PLAIN = {"precision": ("bfloat16", "float32")}
MEMORY = 12


def transform(context: Context, settings: dict) -> checkpoint.Checkpoint:
    """Return the folder written, read back."""
    parent, precision = context.checkpoint, settings["precision"]
    pattern, adapter = parent.record["pattern"], parent.record["adapter"]
    if precision in ("bfloat16", "float32"):
        model = parent.model.to(getattr(torch, precision))
        return checkpoint.write_plain(
            model, parent.tokenizer, context.out, pattern, adapter, context.extent
        )
    # The plain model was attested and gave the masks; it is quantized from its files.
    tokenizer, context.checkpoint = parent.tokenizer, None
    del parent
    packed = quantized.quantize(context.folder, context.device, precision, settings["double_quant"])
    return split_checkpoint.save(
        packed, tokenizer, context.out, pattern, adapter, extent=context.extent
    )
