"""The head that transformers puts on an encoder to tell classes of texts."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models import attestation


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


def require_first_alone(head: Head, states: Tensor) -> None:
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
