"""The loss: cross entropy (nats) of the scored tokens, summed, or its mean over held-out rows."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunegrid.finetuning.training.token_batches import IGNORED, Example, collate, scored
from prunegrid.models.forward import forward_parameters, inner, is_encoder_decoder, positions
from prunegrid.models.padding import unpadded


def summed_loss(model: nn.Module, inputs: dict[str, Tensor], labels: Tensor) -> Tensor:
    """Return the summed cross entropy (nats) of the labels that are not IGNORED."""
    accepted = forward_parameters(model)
    inputs = inputs | {"position_ids": positions(model, inputs["attention_mask"])}
    inputs = {name: t for name, t in inputs.items() if name in accepted}
    first = int((labels != IGNORED).any(0).to(torch.uint8).argmax())
    # The logits of column j predict column j + 1; the last column predicts nothing.
    columns = labels.shape[1] - max(first - 1, 0)
    if "logits_to_keep" in accepted:
        inputs["logits_to_keep"] = columns
    logits = model(**inputs, use_cache=False).logits[:, -columns:][:, :-1]
    targets = labels[:, -columns:][:, 1:]
    is_scored = targets != IGNORED
    return F.cross_entropy(logits[is_scored].float(), targets[is_scored], reduction="sum")


def mean_loss(
    model: nn.Module, examples: list[Example], settings: dict, pad: int, device: str
) -> float:
    """Return the mean cross entropy (nats) over all scored tokens of some rows.

    It is computed without dropout and gradients. No random number is drawn, and the model's mode
    (train or eval) stays as it was.
    """
    training, size = model.training, settings["batch_size"]
    total, count = 0.0, 0
    # Rows of like length share a batch, so that few pads are computed.
    examples = sorted(examples, key=len, reverse=True)
    model.eval()
    with torch.no_grad():
        for start in range(0, len(examples), size):
            for rows in batches_of(model, [examples[start : start + size]], pad):
                inputs, labels = collate(rows, pad, settings["loss_on"], device)
                with casting(settings, device):
                    total += float(summed_loss(model, inputs, labels))
                count += scored(labels)
    model.train(training)
    return total / count


def batches_of(model: nn.Module, batches: list[list[Example]], pad: int) -> list[list[Example]]:
    """Return the batches; those of a model that sees pads are cut into rows of equal length.

    An encoder-decoder drops the pads of a row before it runs (`objectives.as_one_sequence`).
    """
    return batches if is_encoder_decoder(inner(model)) else unpadded(model, batches, pad, "left")


def casting(settings: dict, device: str) -> AbstractContextManager:
    """Return the context of a forward pass: autocast to bfloat16 if the settings say so."""
    if settings["autocast"] in (False, "float32"):
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)
