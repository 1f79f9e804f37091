"""Change of precision without training: float32, bfloat16, int8 values, int8 or NF4.

So precision is an axis of its own: dense and pruned, tuned or not, each in each precision. NF4 and
int8 (bitsandbytes) pack only the linears of the blocks and end the chain; the floats are plain
weights of all tensors. `int8_values` are plain float32 weights of which each row of a prunable
linear and of the head has 255 steps: those that packed weights hold in a byte each
(`packed_matrix`). All keep the zeros of the mask exactly; a code may add some
(`sparsity_prunable`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from prunegrid.models import blocks, checkpoint, quantized, split_checkpoint
from prunegrid.models.packed import packed_head
from prunegrid.models.packed.packed_matrix import PackedMatrix

if TYPE_CHECKING:
    from prunegrid.finetuning.transform_context import Context

CITE = ("dettmers2023qlora",)
TRAINS = False
FITS = ("causal-lm", "seq2seq-lm", "masked-lm", "encoder")
KEYS = ("precision", "double_quant")
PLAIN = {"precision": ("bfloat16", "float32", "int8_values")}
MEMORY = 12


def transform(context: Context, settings: dict) -> checkpoint.Checkpoint:
    """Return the checkpoint of the folder written."""
    adapter, precision = context.checkpoint.record["adapter"], settings["precision"]
    if precision == "int8_values":
        model = _in_steps(context)
        return checkpoint.write_plain(model, **context.destination, adapter=adapter)
    if precision in PLAIN["precision"]:
        model = context.checkpoint.model.to(getattr(torch, precision))
        return checkpoint.write_plain(model, **context.destination, adapter=adapter)
    plain = quantized.require_packable(context.checkpoint.model, context.where)
    if plain:
        context.facts["not_quantized"] = plain
    # Frees the plain model, which was attested and gave the masks: quantizing reads its files.
    context.checkpoint = None
    packed = quantized.quantize(
        context.folder, context.device, precision, settings["double_quant"], plain
    )
    return split_checkpoint.save(packed, **context.destination, adapter=adapter)


def _in_steps(context: Context) -> nn.Module:
    """Return the model in float32 with int8 values, times scales, of prunable linears and head."""
    model = context.checkpoint.model.float()
    head = packed_head.find(model)
    linears = context.destination["extent"].linears(model).values()
    for linear in (*linears, *([head.linear] if head else [])):
        weight = blocks.oriented(linear)
        weight.copy_(PackedMatrix.of(weight.cpu(), "int8").dense())
    return model
