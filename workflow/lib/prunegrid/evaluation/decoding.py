"""New tokens of a batch: greedy search in which ended rows leave, or transformers' own."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.models.forward import forward_parameters, places


def write(
    model: nn.Module, inputs: dict[str, Tensor], config: Any, before: int | None
) -> tuple[list[list[int]], int]:
    """Return the new tokens of each row, and how many were computed.

    Args:
        inputs: input_ids and attention_mask, int64 [rows, tokens].
        config: transformers' generation config.
        before: tokens that a decoder begins with; None of a model without an encoder.
    """
    if before is None and not config.do_sample and config.num_beams == 1:
        return _write_greedily(model, inputs, config)
    counted = places(model, inputs["attention_mask"])
    out = model.generate(**inputs, **counted, generation_config=config)
    new = out[:, inputs["input_ids"].shape[1] if before is None else before :]
    return new.tolist(), new.numel()


def _first_stop(stops: Tensor) -> Any:
    """Return a criterion that ends a whole batch when one of its rows ends."""
    from transformers import StoppingCriteria

    class FirstStop(StoppingCriteria):
        def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
            return torch.isin(input_ids[:, -1], stops).any().expand(len(input_ids))

    return FirstStop()


def _write_greedily(
    model: nn.Module, inputs: dict[str, Tensor], config: Any
) -> tuple[list[list[int]], int]:
    """Return the new tokens of each row, and how many were computed.

    A row that has ended leaves its batch, and the others go on.
    """
    ids, mask, cache = inputs["input_ids"], inputs["attention_mask"], None
    reusable = "past_key_values" in forward_parameters(model)
    width, computed, limit = ids.shape[1], 0, config.max_new_tokens
    rows, written = torch.arange(len(ids), device=ids.device), {}
    config, stops = copy.deepcopy(config), torch.tensor(config.eos_token_id).to(ids.device)
    config.return_dict_in_generate = True
    while len(rows):
        config.max_new_tokens = width + limit - ids.shape[1]
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            **places(model, mask),
            past_key_values=cache,
            generation_config=config,
            stopping_criteria=[_first_stop(stops)],
        )
        new = out.sequences.shape[1] - ids.shape[1]
        computed += new * len(rows)
        ids, cache = out.sequences, out.past_key_values
        ended = torch.isin(ids[:, -1], stops) | (new == config.max_new_tokens)
        written |= dict(zip(rows[ended].tolist(), ids[ended, width:].tolist(), strict=True))
        left = (~ended).nonzero()[:, 0]
        rows, ids = rows[left], ids[left]
        mask = torch.cat([mask[left], mask.new_ones(len(left), new)], dim=1)
        cache = _rows_of(cache, left) if reusable else None
    return [written[row] for row in range(len(written))], computed


def _rows_of(cache: Any, rows: Tensor) -> Any:
    """Return the cache of some rows of its batch; None where it can give none.

    Without one the model reads its tokens again: the same texts, more work.
    """
    if not hasattr(cache, "reorder_cache"):
        return None
    cache.reorder_cache(rows)
    return cache
