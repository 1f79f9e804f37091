"""What a decoder keeps of the tokens that it has read, under any name, and whether it is right.

A cache changes the work and never the text. Some models keep a state that goes wrong in batches
(RWKV's shift of one token mixes the rows), so a model is tried before its cache is believed.
"""

from __future__ import annotations

import logging
import weakref
from typing import Any

import torch
from torch import nn

from prunegrid.common.errors import summary
from prunegrid.models.forward import (
    device_of,
    embedding_rows,
    forward_parameters,
    inner,
    is_encoder_decoder,
)

log = logging.getLogger(__name__)

# Names under which models give it back and take it.
NAMES = ("past_key_values", "cache_params", "state", "mems", "past_buckets_states")
# Tokens of a row that is tried, and how many of them are read one at a time.
LENGTH, STEPS = 8, 3
# A difference beyond this share of the logits' spread is no rounding, in bfloat16 neither.
SHARE = 0.2
_ANSWERS: weakref.WeakKeyDictionary[nn.Module, dict[int, bool]] = weakref.WeakKeyDictionary()


def options(model: nn.Module) -> dict[str, Any]:
    """Return the arguments that ask a model's forward for its cache."""
    return {"use_cache": True} if forward_parameters(model) & {"use_cache", "kwargs"} else {}


def kept(model: nn.Module, output: Any) -> dict[str, Any]:
    """Return the arguments that hand a forward's cache to the next one; {} for none."""
    accepted = forward_parameters(model)
    return {n: output[n] for n in NAMES if n in accepted and output.get(n) is not None}


def are_right(model: nn.Module, rows: int) -> bool:
    """Return whether tokens read one at a time have the logits of those read at once.

    The answer is measured once a model; one without a cache has nothing that can be wrong.

    Args:
        model: a decoder or an encoder-decoder on its device, in eval mode.
        rows: of its batches; two or more are tried with two.
    """
    answers, rows = _ANSWERS.setdefault(inner(model), {}), min(rows, 2)
    if rows not in answers:
        with torch.no_grad():
            answers[rows] = _agree(model, rows)
    return answers[rows]


def _agree(model: nn.Module, rows: int) -> bool:
    ids = torch.arange(1, rows * LENGTH + 1, device=device_of(model)).view(rows, LENGTH)
    ids = ids.mul(7) % (embedding_rows(model) or LENGTH)
    source, name = {}, "input_ids"
    if is_encoder_decoder(inner(model)):
        # As `generate` does: the encoder reads once, and is not asked for a cache.
        source = {"encoder_outputs": inner(model).get_encoder()(input_ids=ids)}
        name = "decoder_input_ids"
    wanted = model(**source, **{name: ids}).logits[:, -STEPS:].float()
    output = model(**source, **{name: ids[:, :-STEPS]}, **options(model))
    for step in range(STEPS):
        state = kept(model, output)
        if not state:
            return True
        place = LENGTH - STEPS + step
        token = {name: ids[:, place : place + 1]}
        try:
            output = model(**source, **token, **state, **options(model))
        except Exception as error:  # it cannot go on from what it keeps (CPM-Ant, ProphetNet)
            log.info("the model's cache cannot be used: %s", summary(error))
            return False
        found = output.logits.float()
        apart = (found[:, -1] - wanted[:, step]).abs().max()
        if found.shape[1] != 1 or not apart <= SHARE * wanted.std():
            return False
    return True
