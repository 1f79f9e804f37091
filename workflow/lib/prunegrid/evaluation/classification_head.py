"""A classification head on a frozen encoder: transformers' own, the only part that is tuned.

The head is all that `AutoModelForSequenceClassification` puts on the encoder, and the pooler where
it reads one (BERT's): a copy of the encoder's, as in fine-tuning, or a new one where there is none
(in a masked language model, nothing trains one). The encoder's tensors are read and never changed,
so they are those that the weights record attests, and zeros stay zeros. Since nothing below the
head changes, the encoder runs once over each item, and the states of the first token are kept; a
head that reads more is refused.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.common.errors import PrunegridError
from prunegrid.models.label_head import Head, require_first_alone
from prunegrid.models.padding import unpadded

log = logging.getLogger(__name__)


def encode(
    tokenizer: Any, texts: Sequence[tuple[str, str | None]], limit: int
) -> tuple[list[Mapping[str, list[int]]], int]:
    """Return the encoder's inputs of each text or pair, and how many were cut to `limit` tokens."""
    inputs, cut = [], 0
    for text, pair in texts:
        tokens = tokenizer(text, pair, verbose=False)
        if len(tokens["input_ids"]) > limit:
            cut += 1
            tokens = tokenizer(text, pair, truncation=True, max_length=limit)
        inputs.append(dict(tokens))
    return inputs, cut


def first_states(
    encoder: nn.Module, tokenizer: Any, encoded: Sequence[Mapping], size: int, head: Head
) -> tuple[Tensor, float]:
    """Return the states [items, 1, d] of each item's first token, and the seconds of the encoder.

    Args:
        encoder: in eval mode.
        encoded: of `encode`.
        size: items a batch, the longest first.

    Raises:
        PrunegridError: they are not finite, or the head reads more than the first token's.
    """
    order = sorted(range(len(encoded)), key=lambda i: (-len(encoded[i]["input_ids"]), i))
    planned = [order[start : start + size] for start in range(0, len(order), size)]
    base: Any = encoder.base_model
    lengths = [len(item["input_ids"]) for item in encoded]
    planned = unpadded(base, planned, tokenizer.pad_token_id, "right", lengths.__getitem__)
    kept: dict[int, Tensor] = {}
    seconds = 0.0
    for picked in tqdm(planned, disable=None, unit="batch"):
        batch = tokenizer.pad([encoded[i] for i in picked], return_tensors="pt")
        batch = {name: tensor.to(base.device) for name, tensor in batch.items()}
        began = time.perf_counter()
        with torch.inference_mode():
            states = base(**batch).last_hidden_state
        first = states[:, :1].cpu()
        seconds += time.perf_counter() - began
        if not torch.isfinite(first).all():
            raise PrunegridError(
                "the encoder's states are not finite",
                remedy="its weights or its dtype are at fault: load it in float32",
            )
        if not kept:
            require_first_alone(head, states)
        kept |= dict(zip(picked, first, strict=True))
    return torch.stack([kept[i] for i in range(len(encoded))]), seconds


def tune(head: Head, states: Tensor, labels: Tensor, settings: Mapping, seed: int) -> dict:
    """Return the facts of tuning a head, in place, by AdamW with a linearly falling rate.

    The budget is `epochs` over the items, the same for all encoders.

    Args:
        states: [items, 1, d].
        labels: int64 [items].
        settings: epochs, batch_size, learning_rate.
        seed: of the order of items and of dropout.
    """
    size, count = settings["batch_size"], len(states)
    total = settings["epochs"] * math.ceil(count / size)
    optimizer = torch.optim.AdamW(head.parameters(), lr=settings["learning_rate"])
    device = next(head.parameters()).device
    losses: list[float] = []
    began = time.perf_counter()
    head.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for _ in range(settings["epochs"]):
            for picked in torch.randperm(count).split(size):
                for group in optimizer.param_groups:
                    group["lr"] = settings["learning_rate"] * (1 - len(losses) / total)
                loss = F.cross_entropy(head(states[picked].to(device)), labels[picked].to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
    head.eval()
    log.info("head: loss %.4f → %.4f in %d steps", losses[0], losses[-1], total)
    return {
        "items": count,
        "steps": total,
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "seconds": time.perf_counter() - began,
    }


def logits_of(head: Head, states: Tensor) -> Tensor:
    """Return logits [items, classes] on the CPU, without dropout."""
    device = next(head.parameters()).device
    with torch.inference_mode():
        return head(states.to(device)).cpu()
