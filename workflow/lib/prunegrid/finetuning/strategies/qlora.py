"""QLoRA: adapters over an NF4 (or int8) base, kept beside it or merged and quantized again.

Dettmers et al. 2023, arXiv 2305.14314: NF4, double quantization, adapters on all linears of a
block. Deviations: the adapter's product is under the pruning mask
(`prunegrid.models.masked_lora`); weights that are not quantized stay in the artifact's dtype; no
paged optimizer; linears multiply with the dequantized weight in the compute dtype, on CPU and CUDA.

To merge, the dequantized base and the product are summed under the mask and quantized again. NF4's
grid (a scale for 64 weights) rounds the product: the loss of the tuning rows before and after tells
the cost. Linears without an adapter keep the codes of their base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from prunegrid.finetuning import adapters
from prunegrid.finetuning.training import run_facts
from prunegrid.models import checkpoint, loading, masked_lora, quantized, split_checkpoint

if TYPE_CHECKING:
    from prunegrid.finetuning.context import Context

CITE = ("dettmers2023qlora",)
TRAINS = True
FITS = ("causal-lm", "seq2seq-lm", "masked-lm", "encoder")
KEYS = (
    "preserve_zeros",
    "adapter",
    "rank",
    "alpha",
    "dropout",
    "targets",
    "quantization",
    "double_quant",
)
ADAPTERS = ("unmerged", "merged", "unmasked", "masked-after")
PLAIN = {"adapter": ()}
MEMORY = 10
HELD = 4


def tune(context: Context, settings: dict) -> tuple[run_facts.TrainFacts, checkpoint.Checkpoint]:
    """Return the training facts and the checkpoint of the folder of packed weights written."""
    names = context.targets()
    plain = quantized.require_packable(context.checkpoint.model, context.where, training=True)
    if plain:
        context.facts["not_quantized"] = plain
    # Frees the plain model, which was attested and gave the masks: quantizing reads its files.
    context.checkpoint = None
    base = quantized.quantize(
        context.folder, context.device, settings["quantization"], settings["double_quant"], plain
    )
    with loading.computing_in(base, settings["autocast"]):
        model, facts = adapters.train(context, base, names, settings)
    if settings["adapter"] in adapters.BESIDE:
        return facts, split_checkpoint.save(model, **context.destination)
    loss = adapters.tuning_loss(model, context)
    packed = quantized.quantize_again(
        context.folder,
        summed(model, context.masks),
        context.out / "summed",
        context.device,
        settings,
        plain,
    )
    after = adapters.tuning_loss(packed, context)
    context.facts |= {"merge_loss_before": loss, "merge_loss_after": after}
    return facts, split_checkpoint.save(packed, **context.destination, adapter="merged")


@torch.no_grad()
def summed(model: nn.Module, masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return base + product of every adapted linear under its mask, [d_out, d_in] on the CPU."""
    sums = {}
    for name, layer in masked_lora.layers(model).items():
        weight = layer.base_weight().float() + layer.delta().float()
        if name in masks:
            weight.mul_(masks[name].to(weight.device))
        sums[name] = weight.cpu()
    return sums
