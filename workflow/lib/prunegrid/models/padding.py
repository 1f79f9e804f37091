"""Whether a model sees the pads beside a row, and batches without pads for those that do.

An attention mask hides pads from attention; recurrent blocks, mixing by Fourier transforms and
positions counted from the left edge take no notice of it, and `generate` of some models leaves it
out. Such a model computes other numbers for a row the longer its neighbours are, so its rows share
a batch only where they are equally long.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from prunegrid.models.forward import (
    device_of,
    embedding_rows,
    final_states,
    forward_parameters,
    inner,
    is_encoder_decoder,
    places,
    positions,
    start_token,
)

Side = Literal["left", "right"]
Row = TypeVar("Row")
SHORT, LONG = 5, 11
# A difference is no rounding if it is this many times that of a batch without pads, or this share
# of the largest number.
TIMES, SHARE = 8, 1e-5
_ANSWERS: weakref.WeakKeyDictionary[nn.Module, dict[tuple, bool]] = weakref.WeakKeyDictionary()


def sees_padding(model: nn.Module, pad: int, side: Side, *, writing: bool = False) -> bool:
    """Return whether a row alone and the same row in a padded batch have other outputs.

    The answer is measured once a model: on a row alone, beside a row of equal length, and beside a
    longer row. Only a difference that the second batch does not show counts.

    Args:
        model: on its device; it keeps the mode that it is in.
        pad: the token that fills rows.
        side: where rows are filled.
        writing: look at the next token of `generate` too, which may leave the attention mask out
            (Reformer's).
    """
    answers = _ANSWERS.setdefault(inner(model), {})
    if (pad, side, writing) not in answers:
        training = model.training
        model.eval()
        with torch.no_grad():
            measures = (_outputs, _next_token) if writing else (_outputs,)
            answers[pad, side, writing] = any(_differs(m, model, pad, side) for m in measures)
        model.train(training)
    return answers[pad, side, writing]


def _differs(measure: Callable[..., Tensor], model: nn.Module, pad: int, side: Side) -> bool:
    vocabulary = embedding_rows(model)
    row, other, longer = (
        [token + (token == pad) for token in ((7 * i + 3 * n) % (vocabulary - 1) for i in range(n))]
        for n in (SHORT, SHORT, LONG)
    )
    other = other[::-1]
    alone, equal, padded = (
        measure(model, rows, pad, side) for rows in ([row], [row, other], [row, longer])
    )
    noise = float((equal - alone).abs().max())
    limit = max(TIMES * noise, SHARE * float(alone.abs().max()))
    return not float((padded - alone).abs().max()) <= limit


def _outputs(model: nn.Module, rows: list[list[int]], pad: int, side: Side) -> Tensor:
    """Return what the model gives for the first row [its tokens, width], float32."""
    ids, mask = _filled(model, rows, pad, side)
    inputs: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": positions(model, mask),
    }
    accepted = forward_parameters(model)
    inputs = {n: t for n, t in inputs.items() if n in accepted}
    if is_encoder_decoder(inner(model)):
        # A decoder beside an encoder is filled on the right, without a mask.
        first = torch.full_like(ids[:, :1], start_token(inner(model)))
        targets, mask = _filled(model, rows, pad, "right")
        inputs["decoder_input_ids"] = torch.cat([first, targets[:, :-1]], dim=1)
    if "use_cache" in accepted:
        inputs["use_cache"] = False
    output = model(**inputs)
    return final_states(output)[0, mask[0].bool()].float()


def _next_token(model: nn.Module, rows: list[list[int]], pad: int, side: Side) -> Tensor:
    """Return the logits of the first token that `generate` writes after the first row, float32."""
    from transformers import GenerationConfig

    ids, mask = _filled(model, rows, pad, side)
    own = inner(model)
    start = {"decoder_start_token_id": start_token(own)} if is_encoder_decoder(own) else {}
    config = GenerationConfig(
        max_new_tokens=1,
        do_sample=False,
        num_beams=1,
        use_cache=False,
        pad_token_id=pad,
        output_logits=True,
        return_dict_in_generate=True,
        **start,
    )
    inputs = {"input_ids": ids, "attention_mask": mask, **places(model, mask)}
    return model.generate(**inputs, generation_config=config).logits[0][0].float()


def _filled(model: nn.Module, rows: list[list[int]], pad: int, side: Side) -> tuple[Tensor, Tensor]:
    """Return tokens and attention mask [rows, longest row], filled on one side."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for line, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(len(row))
        ids[line, place], mask[line, place] = torch.tensor(row), 1
    return ids.to(device_of(model)), mask.to(device_of(model))


def unpadded(
    model: nn.Module,
    batches: list[list[Row]],
    pad: int,
    side: Side,
    length: Callable[[Row], int] = len,
    *,
    writing: bool = False,
) -> list[list[Row]]:
    """Return the batches; of a model that sees pads, cut into rows of equal length.

    Args:
        writing: as of `sees_padding`.
    """
    cut = [rows for batch in batches for rows in _equally_long(batch, length)]
    needless = len(cut) == len(batches) or not sees_padding(model, pad, side, writing=writing)
    return batches if needless else cut


def _equally_long(rows: list[Row], length: Callable[[Row], int]) -> list[list[Row]]:
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(length(row), []).append(row)
    return list(groups.values())
