"""The text part of a model that takes images or sounds too: its config and its tensors.

Such a folder holds a causal language model beside other towers. For texts alone it computes what
the whole model does, as a few tokens show, or it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError, explained
from prunegrid.models import loading

# Tokens of the comparison; a difference within this share of the largest logit is rounding.
TOKENS, SHARE = 8, 0.02


def text_config(config: Any) -> Any | None:
    """Return the config of the causal language model inside a config; None where it is no part."""
    if getattr(config, "is_encoder_decoder", False):
        return None
    try:
        text = config.get_text_config()
    except ValueError:  # it has several
        return None
    causal = loading.of_task("causal-lm")
    if text is config or not loading.is_of(causal, (), text):
        return None
    # The head is the whole model's, and so is the word on its tie.
    text.tie_word_embeddings = getattr(config, "tie_word_embeddings", text.tie_word_embeddings)
    return text


def tensors_of(
    tensors: Mapping[str, Tensor], skeleton: nn.Module, where: str
) -> tuple[dict[str, Tensor], str]:
    """Return the text part's tensors by the names of its own model, and a note on the others.

    Args:
        tensors: of the whole model, as its files name them.
        skeleton: the text part's model.

    Raises:
        PrunegridError: not exactly one tensor can be its embedding.
    """
    table, own = skeleton.get_input_embeddings().weight, f"{skeleton.base_model_prefix}."
    anchor = next(n for n, p in skeleton.named_parameters() if p is table).removeprefix(own)
    prefixes = [name.removesuffix(anchor) for name in tensors if f".{name}".endswith(f".{anchor}")]
    if len(prefixes) != 1:
        raise PrunegridError(
            f"{len(prefixes)} tensors of its files can be the embedding of its text part",
            where=where,
            expected=f"one whose name ends in {anchor}",
            remedy="save its text part as a model of its own, and name that folder",
        )
    found = {
        own + name.removeprefix(prefixes[0]): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefixes[0])
    }
    for name in skeleton.state_dict():
        same = [other for other in tensors if f".{other}".endswith(f".{name}")]
        if not name.startswith(own) and len(same) == 1:
            found[name] = tensors[same[0]]
    return found, f"its text part alone: {len(tensors) - len(found)} other tensors are left out"


def require_same(
    text: nn.Module, folder: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype, where: str
) -> None:
    """Check that a text part computes what the whole model does for a few tokens of text.

    Args:
        text: the text part's model.
        folder: of the whole model, with its config.
        tensors: of the whole model, as its files name them.

    Raises:
        PrunegridError: it does not, as where the whole model does not scale its logits.
    """
    import transformers

    other = PrunegridError(
        "its text part cannot be compared with the whole model",
        where=where,
        expected="a class of transformers in architectures, and the tensors of its config",
        remedy="save its text part as a model of its own, and name that folder",
    )
    ids = torch.arange(2, 2 + TOKENS)[None]
    with explained(other), torch.no_grad():
        config = loading.read_config(folder)
        kind = getattr(transformers, config.architectures[0])
        whole = kind.from_pretrained(None, config=config, state_dict=dict(tensors), dtype=dtype)
        found, wanted = (model.eval()(input_ids=ids).logits.float() for model in (text, whole))
    if not (found - wanted).abs().max() <= SHARE * wanted.abs().max():
        raise PrunegridError(
            "its text part computes other logits than the whole model does",
            where=where,
            expected="the same, for texts alone",
            remedy="this architecture is not supported",
        )
