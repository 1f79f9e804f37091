"""Perplexity of a text under the protocols of docs/explanations/perplexity.md, window by window.

perplexity = exp(sum of token losses in nats / number of scored tokens, or of words). A token of a
`nonoverlap` or `stride` window is scored once, with as much context as its window holds; the rest
behind the last whole `nonoverlap` window is dropped, the last `stride` window may be shorter.
`words` is lm-evaluation-harness' word_perplexity, with its rolling windows and its special tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from prunegrid.common.errors import PrunegridError
from prunegrid.models.forward import forward_parameters


class Window(NamedTuple):
    """Tokens start…end of the text, of which the last `scored` count."""

    start: int
    end: int
    scored: int


def plan_windows(
    count: int, protocol: str, window: int, stride: int | None, limit: int | None, where: str = ""
) -> list[Window]:
    """Return the windows of a text of `count` tokens, at most `limit` of them.

    Raises:
        PrunegridError: the protocol is unknown, the stride does not fit, or the text is too short.
    """
    if protocol not in ("nonoverlap", "stride"):
        raise PrunegridError(
            f"protocol is '{protocol}'", where=where, expected="nonoverlap, stride or words"
        )
    if window < 2 or (protocol == "stride" and not 1 <= (stride or 0) < window):
        raise PrunegridError(
            f"window is {window} and stride {stride}",
            where=where,
            expected="window ≥ 2 and 1 ≤ stride < window",
        )
    if count < (window if protocol == "nonoverlap" else 2):
        raise PrunegridError(
            f"the text has {count} tokens",
            where=where,
            expected=f"at least one window of {window}",
            remedy="use a longer text or a smaller window",
        )
    if protocol == "nonoverlap":
        starts = range(0, count - window + 1, window)
        return [Window(start, start + window, window - 1) for start in starts][:limit]
    plan, end = [], 1
    for start in range(0, count, stride):
        stop = min(start + window, count)
        plan.append(Window(start, stop, stop - end))
        end = stop
        if stop == count:
            break
    return plan[:limit]


def plan_rolling(count: int, window: int) -> list[Window]:
    """Return the windows of a document of `count` tokens, the first of which is only context.

    Every other token is scored once; all but the first window are filled up with context, and a
    model is given `window` tokens at most (the last token of a window is scored, not given).
    """
    end = min(window + 1, count)
    plan = [Window(0, end, end - 1)]
    while end < count:
        stop = min(end + window, count)
        plan.append(Window(max(stop - window - 1, 0), stop, stop - end))
        end = stop
    return plan


def count_words(text: str) -> int:
    """Return the number of words of a text as lm-evaluation-harness counts them."""
    return len(re.split(r"\s+", text))


@torch.no_grad()
def window_losses(
    model: nn.Module, tokens: Sequence[int], plan: Sequence[Window], where: str
) -> list[float]:
    """Return the sum of token losses (nats) of each window.

    Args:
        model: a causal language model in eval mode, on its device.
        tokens: of the whole text.

    Raises:
        PrunegridError: a loss is NaN or infinite.
    """
    device = next(model.parameters()).device
    ids = torch.tensor(tokens, dtype=torch.int64, device=device)
    can_cut = "logits_to_keep" in forward_parameters(model)
    losses = []
    for index, window in enumerate(tqdm(plan, desc="perplexity", disable=None)):
        part = ids[window.start : window.end]
        loss = float(_loss(model, part, window.scored, can_cut))
        if not math.isfinite(loss):
            raise PrunegridError(
                f"the loss of window {index} is {loss}",
                where=where,
                remedy="the model gives NaN or infinite logits: check its weights and dtype",
            )
        losses.append(loss)
    return losses


def _loss(model: nn.Module, part: Tensor, scored: int, can_cut: bool) -> Tensor:
    """Return the summed loss of the last `scored` tokens of `part`, float64."""
    # The last token is not given: its prediction is not scored.
    keep = {"logits_to_keep": scored} if can_cut else {}
    logits = model(part[None, :-1], use_cache=False, **keep).logits[0, -scored:]
    return functional.cross_entropy(logits.float(), part[-scored:], reduction="none").double().sum()
