"""Options of one context, scored after reading the context once.

The harness reads the context of a multiple-choice item again for each option whose tokens are more
than one. Here the context but its last token is read once, its cache is repeated for the options,
and these are read side by side. Items whose contexts have equally many tokens are a batch. Sums are
those of the harness but for rounding. The first item, which has the longest context, is scored both
ways: a model whose cache does not give the same is left to the harness.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.models import caches, forward

# As the harness has it: (texts, tokens of the context, tokens of the option).
Request = tuple[Any, list[int], list[int]]
Answer = tuple[float, bool]

# Tokens that must be saved for an item: a second pass reads all weights once more.
LEAST_SAVED = 64
# Nats by which two ways of one sum may differ: rounding in float32, and in 16 bits.
TOLERANCE = {torch.float32: 1e-2}
NARROW = 0.5


def batches(requests: Sequence[Request], positions: int, size: int) -> Iterator[list[list[int]]]:
    """Yield batches of items, the longest contexts first; an item is the places of its requests.

    The items of a batch have equally many tokens of context, and options. Contexts of one token,
    those that the harness would cut, and items that save too little are left out.

    Args:
        positions: that the model has.
        size: the most items of a batch.
    """
    items: dict[tuple[int, ...], list[int]] = {}
    for place, (_, context, _) in enumerate(requests):
        items.setdefault(tuple(context), []).append(place)
    alike: dict[tuple[int, int], list[list[int]]] = {}
    for context, places in items.items():
        whole = len(context) + max(len(requests[place][2]) for place in places)
        worth = len(context) > 1 and len(context) * (len(places) - 1) >= LEAST_SAVED
        if worth and whole <= positions + 1:
            alike.setdefault((len(context), len(places)), []).append(places)
    for _, found in sorted(alike.items(), reverse=True):
        yield from (found[first : first + size] for first in range(0, len(found), size))


@torch.no_grad()
def answers(model: nn.Module, items: Sequence[Sequence[Request]]) -> list[list[Answer]] | None:
    """Return (log-likelihood in nats, whether greedy decoding writes it) of each item's options.

    None is returned for a model that keeps nothing that can be repeated.

    Args:
        model: a causal language model in eval mode.
        items: of one batch (see `batches`).
    """
    device = forward.device_of(model)
    contexts = torch.tensor([item[0][1] for item in items], device=device)
    asked = caches.options(model)
    if "logits_to_keep" in forward.forward_parameters(model):
        asked["logits_to_keep"] = 1
    state = model(input_ids=contexts[:, :-1], **asked).get("past_key_values")
    if not hasattr(state, "batch_repeat_interleave"):
        return None
    state.batch_repeat_interleave(len(items[0]))
    options = [(context[-1], option) for item in items for _, context, option in item]
    longest = max(len(option) for _, option in options)
    rows = [[last, *option[:-1], *[0] * (longest - len(option))] for last, option in options]
    ids = torch.tensor(rows, device=device)
    logits = model(input_ids=ids, past_key_values=state, **caches.options(model)).logits
    scores = logits.log_softmax(-1)
    found = (_answer(one, option) for one, (_, option) in zip(scores, options, strict=True))
    return [list(itertools.islice(found, len(item))) for item in items]


def _answer(scores: Tensor, option: list[int]) -> Answer:
    """Return the answer of one option.

    Args:
        scores: log-probabilities [tokens, vocabulary], of no fewer tokens than the option has.
    """
    tokens, scores = torch.tensor(option, device=scores.device), scores[: len(option)]
    greedy = bool((scores.argmax(-1) == tokens).all())
    return float(scores.gather(1, tokens[:, None]).sum()), greedy


def agree(model: nn.Module, found: Sequence[Answer], own: Sequence[Answer]) -> bool:
    """Return whether answers are those of the harness but for rounding."""
    allowed = TOLERANCE.get(next(model.parameters()).dtype, NARROW)
    return all(abs(a - b) <= allowed for (a, _), (b, _) in zip(found, own, strict=True))
