"""Calibration samples: windows of tokens, drawn as the drivers of SparseGPT and Wanda draw them.

A document is drawn at random, until one has more than `length` tokens; then one window of it.
Special tokens are the tokenizer's own default, so a window at a document's start holds its BOS. How
a model is given a window (an encoder-decoder gets it twice) is said in `prunegrid.models.forward`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from prunegrid.common.errors import PrunegridError
from prunegrid.data.rows import SEPARATOR


def draw_windows(
    texts: Sequence[str],
    encode: Callable[[str], list[int]],
    samples: int,
    length: int,
    seed: int,
    where: str,
    *,
    join: bool = False,
) -> Tensor:
    """Return calibration windows, int64 [samples, length].

    Args:
        texts: the documents.
        encode: returns a text's tokens.
        seed: of the draws.
        where: label for errors.
        join: draw from all documents in random order as one text, and not from one document each:
            for documents that are shorter than a window.

    Raises:
        PrunegridError: no document (or, joined, not all of them together) is long enough.
    """
    draw = random.Random(seed)
    if join:
        tokens = _joined(texts, encode, samples * length, draw)
        sources = itertools.repeat(tokens)
        fault, remedy = f"all documents together have {len(tokens)} tokens", "lower `length`"
    else:
        sources = _long_documents(texts, encode, length, draw)
        fault = f"no document has more than {length} tokens"
        remedy = "lower `length`, or set `join: true`"
    windows = []
    for _ in range(samples):
        tokens = next(sources, [])
        if len(tokens) <= length:
            expected = f"more than {length} (calibration length)"
            raise PrunegridError(fault, where=where, expected=expected, remedy=remedy)
        start = draw.randint(0, len(tokens) - length - 1)
        windows.append(tokens[start : start + length])
    return torch.tensor(windows, dtype=torch.int64)


def _long_documents(
    texts: Sequence[str], encode: Callable[[str], list[int]], length: int, draw: random.Random
) -> Iterator[list[int]]:
    """Yield the tokens of random documents of more than `length`, with replacement."""
    candidates = list(range(len(texts)))
    known: dict[int, list[int]] = {}
    while candidates:
        place = draw.randrange(len(candidates))
        index = candidates[place]
        if index not in known:
            tokens = encode(texts[index])
            if len(tokens) <= length:
                # Never to be drawn again; the order of the others is of no importance.
                candidates[place] = candidates[-1]
                candidates.pop()
                continue
            known[index] = tokens
        yield known[index]


def _joined(
    texts: Sequence[str], encode: Callable[[str], list[int]], enough: int, draw: random.Random
) -> list[int]:
    """Return the tokens of documents in random order with blank lines between, over `enough`."""
    order = list(range(len(texts)))
    draw.shuffle(order)
    tokens: list[int] = []
    for index in order:
        tokens += encode(texts[index] + SEPARATOR)
        # Twice as many as the windows hold, so that windows seldom overlap.
        if len(tokens) > 2 * enough:
            break
    return tokens
