"""Full fine-tuning of an encoder-decoder: documents in the encoder, summaries in the decoder.

The loop is the one of all strategies, on rows of a prompt and a response. While it runs, the
model's forward divides each row: the prompt and an EOS go into the encoder, the response behind its
start token into the decoder. The logits are put where those of one sequence would be. So the model
learns p(response | prompt) token by token (teacher forcing), without a loss on the prompt. Dtypes
and masks are those of `full`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.finetuning.strategies.full import train_in_float32
from prunegrid.finetuning.training import run_facts
from prunegrid.models import checkpoint
from prunegrid.models.forward import is_encoder_decoder, start_token
from prunegrid.models.padding import sees_padding

if TYPE_CHECKING:
    from prunegrid.finetuning.context import Context

TRAINS = True
KEYS = ("preserve_zeros",)
MEMORY = 16
COPY = 4


def tune(context: Context, settings: dict) -> tuple[run_facts.TrainFacts, checkpoint.Checkpoint]:
    """Return the training facts and the checkpoint of the plain folder written.

    Raises:
        PrunegridError: the model has no encoder and decoder, or the loss is not on responses alone.
    """
    model = context.checkpoint.model
    if not is_encoder_decoder(model):
        raise PrunegridError(
            f"{type(model).__name__} is no encoder-decoder",
            where=context.where,
            remedy="use strategy: full",
        )
    if settings["loss_on"] != "response" or "window" in settings:
        raise PrunegridError(
            "an encoder-decoder learns responses alone",
            where=context.where,
            remedy="set loss_on: response, and learn a data set of summaries",
        )
    eos = context.checkpoint.tokenizer.eos_token_id
    for name in ("examples", "dev"):
        rows = getattr(context, name)
        setattr(context, name, [replace(row, prompt=[*row.prompt, eos]) for row in rows])
    with as_one_sequence(model, eos, context.pad):
        facts = train_in_float32(context)
    return facts, checkpoint.write_plain(model, **context.destination)


@contextlib.contextmanager
def as_one_sequence(model: nn.Module, eos: int, pad: int) -> Iterator[None]:
    """Let an encoder-decoder be run on rows of a prompt, its EOS, and a response.

    Args:
        eos: the first of a row ends its prompt.
        pad: fills batches.
    """
    own, start = model.forward, start_token(model)
    pads_are_seen = sees_padding(model, pad, "right")

    def joint(
        input_ids: Tensor, attention_mask: Tensor, use_cache: bool = False
    ) -> SimpleNamespace:
        lengths = attention_mask.sum(-1)
        rows = [ids[len(ids) - n :] for ids, n in zip(input_ids, lengths.tolist(), strict=True)]
        cuts = [int((row == eos).nonzero()[0]) + 1 for row in rows]
        sources = [row[:cut] for row, cut in zip(rows, cuts, strict=True)]
        # The decoder does not need the last token: nothing follows it.
        first = torch.full((1,), start, device=input_ids.device)
        targets = [torch.cat([first, row[cut:-1]]) for row, cut in zip(rows, cuts, strict=True)]
        size = 1 if pads_are_seen else len(rows)
        out = [
            logits
            for at in range(0, len(rows), size)
            for logits in own(
                input_ids=_padded(sources[at : at + size], pad),
                attention_mask=_padded([torch.ones_like(s) for s in sources[at : at + size]], 0),
                decoder_input_ids=_padded(targets[at : at + size], pad),
                use_cache=use_cache,
            ).logits
        ]
        # The logits of a column predict the next one: those of `start` go to the EOS's column.
        width = input_ids.shape[1]
        lines = []
        for logits, target in zip(out, targets, strict=True):
            empty = logits.new_zeros(width - 1 - len(target), logits.shape[-1])
            last = logits.new_zeros(1, logits.shape[-1])
            lines.append(torch.cat([empty, logits[: len(target)], last]))
        return SimpleNamespace(logits=torch.stack(lines))

    model.forward = joint
    try:
        yield
    finally:
        del model.forward


def _padded(rows: list[Tensor], pad: int) -> Tensor:
    """Return rows as one tensor [rows, longest], padded on the right."""
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
