"""A classification head on a frozen encoder: transformers' own, the only part that is tuned.

The head is all that `AutoModelForSequenceClassification` puts on the encoder, and the pooler where
it reads one (BERT's): a copy of the encoder's, as in fine-tuning, or a new one where there is none
(in a masked language model, nothing trains one). The encoder's tensors are read and never changed,
so they are those that the weights record attests, and zeros stay zeros. Since nothing below the
head changes, the encoder runs once over each item, and the states of the first token are kept; a
head that reads more is refused.
"""

from __future__ import annotations

import copy
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
from prunegrid.models import attestation
from prunegrid.models.padding import unpadded

log = logging.getLogger(__name__)


class _KeptStates(nn.Module):
    """Stands in for the encoder below its head: its output is states that the encoder gave."""

    def __init__(self, pooler: nn.Module | None) -> None:
        super().__init__()
        self.pooler = pooler
        self.states: Tensor | None = None

    def forward(self, *_: Any, **__: Any) -> Any:
        """Return the states, and the pooler's output for them."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        pooled = None if self.pooler is None else self.pooler(self.states)
        return BaseModelOutputWithPooling(last_hidden_state=self.states, pooler_output=pooled)


class Head(nn.Module):
    """The head of an encoder for so many classes, its first weights drawn from a seed.

    Args:
        encoder: as loaded by transformers; it is not kept.

    Raises:
        PrunegridError: transformers has no classifier for such an encoder.
    """

    def __init__(self, encoder: nn.Module, classes: int, seed: int) -> None:
        super().__init__()
        from transformers import AutoModelForSequenceClassification

        config = copy.deepcopy(encoder.config)
        config.num_labels, config.problem_type = classes, "single_label_classification"
        if type(config) not in AutoModelForSequenceClassification._model_mapping:
            raise PrunegridError(
                f"transformers puts no classification head on {type(encoder).__name__}",
                expected="an encoder that AutoModelForSequenceClassification knows",
            )
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config)
        drawn = [part for name, part in model.named_children() if name != model.base_model_prefix]
        pooler = getattr(model.base_model, "pooler", None)
        trained = getattr(encoder.base_model, "pooler", None)
        if pooler is not None and trained is not None:
            pooler = copy.deepcopy(trained)
        elif pooler is not None:
            drawn.append(pooler)
        setattr(model, model.base_model_prefix, _KeptStates(pooler))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for part in drawn:
                part.to_empty(device="cpu")
                part.apply(model._init_weights)
        self.model = model.float().to(encoder.device).requires_grad_(True)

    def forward(self, states: Tensor) -> Tensor:
        """Return logits [items, classes] of the encoder's states [items, tokens, d]."""
        getattr(self.model, self.model.base_model_prefix).states = states.float()
        ids = torch.zeros(states.shape[:2], dtype=torch.long, device=states.device)
        return self.model(input_ids=ids).logits

    def tensors(self) -> dict[str, Tensor]:
        """Return its weights by name."""
        return {name: p.detach().cpu().contiguous() for name, p in self.model.named_parameters()}

    def sha256(self) -> str:
        """Return one digest over its weights."""
        return attestation.weights_sha256(self.tensors())


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
            _require_first_alone(head, states)
        kept |= dict(zip(picked, first, strict=True))
    return torch.stack([kept[i] for i in range(len(encoded))]), seconds


def _require_first_alone(head: Head, states: Tensor) -> None:
    """Check that a head has the same output for all states as for the first token's."""
    head.eval()
    with torch.no_grad():
        whole, alone = head(states), head(states[:, :1])
    if not torch.allclose(whole, alone, rtol=1e-3, atol=1e-4):
        raise PrunegridError(
            f"the head of {type(head.model).__name__} reads more than the first token",
            expected="one that reads the first token's states, as BERT's, RoBERTa's or DeBERTa's",
            remedy="this architecture is not supported",
        )


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
