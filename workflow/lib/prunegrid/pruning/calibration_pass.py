"""Calibration samples and what the dense model's linears are given on them.

Windows are drawn as the drivers of SparseGPT and Wanda draw them: a document at random, until one
has more than `length` tokens; then one window of it at random. Special tokens are the tokenizer's
own default, so a window at a document's start holds its BOS. How a model is given a window (an
encoder-decoder gets it twice) is said in `prunegrid.models.forward`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.common.errors import PrunegridError
from prunegrid.data.rows import SEPARATOR
from prunegrid.models.blocks import Blocks, find_blocks
from prunegrid.models.forward import run_window
from prunegrid.pruning.dense_statistics import dense_stats
from prunegrid.pruning.input_stats import Collector, InputStats
from prunegrid.pruning.model_access import WHOLE, Holding
from prunegrid.pruning.replay import Replay

log = logging.getLogger(__name__)


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
        encode: a text's tokens.
        samples: how many windows.
        length: their tokens.
        seed: of the draws.
        where: label for errors.
        join: draw from all documents in random order as one text, and not from one document each:
            for documents that are shorter than a window.

    Raises:
        PrunegridError: no document (or, joined, not all of them together) is long enough.
    """
    draw = random.Random(seed)
    source = _joined(texts, encode, samples * length, draw) if join else _Documents(texts, encode)
    windows = []
    for _ in range(samples):
        tokens = source(draw, length) if isinstance(source, _Documents) else source
        if len(tokens) <= length:
            raise PrunegridError(
                f"no document has more than {length} tokens"
                if not join
                else f"all documents together have {len(tokens)} tokens",
                where=where,
                expected=f"more than {length} (calibration length)",
                remedy="lower `length`" + ("" if join else ", or set `join: true`"),
            )
        start = draw.randint(0, len(tokens) - length - 1)
        windows.append(tokens[start : start + length])
    return torch.tensor(windows, dtype=torch.int64)


class _Documents:
    """Draws documents at random, with replacement, among those that are long enough."""

    def __init__(self, texts: Sequence[str], encode: Callable[[str], list[int]]) -> None:
        self._texts, self._encode = texts, encode
        self._candidates = list(range(len(texts)))
        self._long: dict[int, list[int]] = {}

    def __call__(self, draw: random.Random, length: int) -> list[int]:
        """Return the tokens of one that has more than `length`; empty where there is none."""
        while self._candidates:
            place = draw.randrange(len(self._candidates))
            index = self._candidates[place]
            if index not in self._long:
                tokens = self._encode(self._texts[index])
                if len(tokens) <= length:
                    # Never to be drawn again; the order of the others is of no importance.
                    self._candidates[place] = self._candidates[-1]
                    self._candidates.pop()
                    continue
                self._long[index] = tokens
            return self._long[index]
        return []


def _joined(
    texts: Sequence[str], encode: Callable[[str], list[int]], enough: int, draw: random.Random
) -> list[int]:
    """Return the tokens of documents in random order with blank lines between, at least `enough`.

    Twice as many are taken as the windows hold, so that windows seldom overlap.
    """
    order = list(range(len(texts)))
    draw.shuffle(order)
    tokens: list[int] = []
    for index in order:
        tokens += encode(texts[index] + SEPARATOR)
        if len(tokens) > 2 * enough:
            break
    return tokens


@torch.no_grad()
def dense_norms(model: nn.Module, tokens: Tensor, holding: Holding = WHOLE) -> dict[str, Tensor]:
    """Return full linear name → float32 [d_in], the mean of x_j² over all tokens, of `model` as is.

    Args:
        model: on its device.
        tokens: int64 [samples, length].
        holding: how the model is held; a block at a time, all samples pass each block in turn.

    Raises:
        PrunegridError: activations hold NaN or infinity, or a linear is not reached.
    """
    blocks = find_blocks(model)
    if not holding.whole:
        return _norms_by_block(model, blocks, tokens, holding)
    linears = {n: module for group in blocks.linears.values() for n, module in group.items()}
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        with Collector(linears, "input_norms", device) as collector:
            for sample, window in enumerate(tqdm(tokens, desc="calibrate", disable=None)):
                collector.run(sample, lambda w=window: run_window(model, w[None].to(device)))
    finally:
        model.train(training)
    return _norms(collector.finish())


def _norms(stats: Mapping[str, InputStats]) -> dict[str, Tensor]:
    # Clones: linears that share an input share its norms, and files hold no shared memory.
    return {name: found.input_norms.cpu().clone() for name, found in stats.items()}


def _norms_by_block(
    model: nn.Module, blocks: Blocks, tokens: Tensor, holding: Holding
) -> dict[str, Tensor]:
    replay, found = Replay(model, blocks, tokens, holding.storage), {}
    for index in tqdm(range(len(blocks.names)), desc="calibrate", unit="block", disable=None):
        with holding.resident(index):
            found |= _norms(dense_stats(replay, index, "input_norms"))
    return found
