"""The forward pass of any model on a calibration window, by its signature, never by its name.

Decoders and encoders get the window as it is. The encoder of an encoder-decoder gets the window,
its decoder the same window shifted right by one, with its start token first. So both stacks see
`length` tokens of the text, as if the model were trained to copy it.
"""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError

# Found once a model: training asks in each batch.
_FIRST: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()


def run_window(model: nn.Module, window: Tensor) -> Any:
    """Return the model's output for int64 tokens [1, length], computed without a cache.

    Raises:
        PrunegridError: an encoder-decoder does not say which token its decoder starts with.
    """
    accepted = inspect.signature(model.forward).parameters
    arguments: dict[str, Any] = {}
    if "use_cache" in accepted:
        arguments["use_cache"] = False
    if is_encoder_decoder(model) and "decoder_input_ids" in accepted:
        start = torch.full_like(window[:, :1], start_token(model))
        arguments["decoder_input_ids"] = torch.cat([start, window[:, :-1]], dim=1)
    with _config_without_cache(model):
        return model(window, **arguments)


@contextlib.contextmanager
def _config_without_cache(model: nn.Module) -> Iterator[None]:
    """Switch the cache off in the config, where a forward without `use_cache` reads it."""
    configs = {id(c): c for m in model.modules() if (c := getattr(m, "config", None)) is not None}
    cached = [config for config in configs.values() if getattr(config, "use_cache", False)]
    for config in cached:
        config.use_cache = False
    try:
        yield
    finally:
        for config in cached:
            config.use_cache = True


def final_states(output: Any) -> Tensor:
    """Return the logits of an output; the last hidden states of a model without a head."""
    return output.logits if hasattr(output, "logits") else output.last_hidden_state


def is_encoder_decoder(model: nn.Module) -> bool:
    """Return whether the model's config says that it has an encoder and a decoder."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def device_of(model: nn.Module) -> torch.device:
    """Return a model's device: that of its first parameter in memory (blocks may not be)."""
    return next(p.device for p in model.parameters() if p.device.type != "meta")


# Names of the number of positions in configs whose `attribute_map` does not lead to the first one:
# MPT's, and those of an encoder and of a decoder (LED).
POSITIONS = ("max_position_embeddings", "max_seq_len")
SOURCE, TARGET = "max_encoder_position_embeddings", "max_decoder_position_embeddings"


def max_positions(model: nn.Module, *, source: bool = False) -> int | None:
    """Return how many tokens the model has positions for; None where its config sets no limit.

    Args:
        source: of an encoder-decoder, look at its encoder alone.
    """
    names = (*POSITIONS, SOURCE, *(() if source else (TARGET,)))
    configs = [model.config]
    with contextlib.suppress(ValueError):  # one with several parts of text has no single one
        configs.append(model.config.get_text_config())
    found = [getattr(config, name, None) for config in configs for name in names]
    # XLNet's config says -1 for no limit.
    total = min((n for n in found if isinstance(n, int) and n > 0), default=None)
    return None if total is None else total - first_position(model)


def first_position(model: nn.Module) -> int:
    """Return the position id of a row's first token.

    A table of positions with a padding index (RoBERTa's) counts from behind it: two of its 514
    rows stand for no token. Others count from 0.
    """
    if model not in _FIRST:
        total = getattr(model.config, "max_position_embeddings", None)
        tables = (
            module
            for name, module in model.named_modules()
            if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
        )
        padding = (t.padding_idx for t in tables if t.num_embeddings == total)
        _FIRST[model] = next((index + 1 for index in padding if index is not None), 0)
    return _FIRST[model]


def positions(model: nn.Module, mask: Tensor) -> Tensor:
    """Return position ids that count the unmasked tokens of each row, of the mask's shape."""
    return (mask.cumsum(-1) - 1).clamp(min=0) + first_position(inner(model))


def places(model: nn.Module, mask: Tensor) -> dict[str, Tensor]:
    """Return the position ids of a model that does not count them from 0 (RoBERTa); {} of others.

    `generate` counts from 0.
    """
    counted = "position_ids" not in forward_parameters(model) or not first_position(inner(model))
    return {} if counted else {"position_ids": positions(model, mask)}


def embedding_rows(model: nn.Module) -> int | None:
    """Return how many tokens the model's input embedding has rows for; None without a table."""
    try:
        table = inner(model).get_input_embeddings()
    except NotImplementedError:
        return None
    rows = getattr(table, "num_embeddings", None)
    weight = None if rows else getattr(table, "weight", None)
    return rows if weight is None else weight.shape[0]


def start_token(model: nn.Module) -> int:
    """Return the token that an encoder-decoder's decoder begins with.

    Raises:
        PrunegridError: the model's config names none.
    """
    for fact in ("decoder_start_token_id", "bos_token_id"):
        for owner in (model.config, getattr(model, "generation_config", None)):
            token = getattr(owner, fact, None)
            if isinstance(token, int):
                return token
    raise PrunegridError(
        "the decoder's first token is not known",
        where=type(model).__name__,
        expected="decoder_start_token_id in the model's config",
        remedy="add it to config.json",
    )


def forward_parameters(model: nn.Module) -> set[str]:
    """Return the parameter names of the model's forward (the base model's, below an adapter)."""
    return set(inspect.signature(inner(model).forward).parameters)


def inner(model: nn.Module) -> Any:
    """Return the transformers model below an adapter's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
