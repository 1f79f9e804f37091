"""Training rows as token ids, their order, and their batches.

Batches are padded on the left to their longest row, and positions are counted from the attention
mask. So all responses end in the last column, and logits are computed for their columns only. Rows
of similar length share an optimizer step, so that few pads are computed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED = -100
# Optimizer steps whose rows are sorted by length together. With more of them there would be fewer
# pads, but also less chance in which rows share a step.
WINDOW = 16


@dataclass(frozen=True)
class Example:
    """One tokenized training row: a prompt and the response to learn.

    Attributes:
        hidden: place → the token that is shown there: of a masked language model, which learns
            these places alone; None for models that learn the next token.
    """

    prompt: list[int]
    response: list[int]
    hidden: dict[int, int] | None = None

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


def collate(
    rows: list[Example], pad: int, loss_on: str, device: str
) -> tuple[dict[str, Tensor], Tensor]:
    """Return model inputs and labels, each [batch, longest row], padded on the left.

    Labels are IGNORED on pads and, with loss_on "response", on prompts. They are found by length
    and not by token id, so an EOS is learned even if it is the pad token.
    """
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for line, row in enumerate(rows):
        tokens = torch.tensor(row.prompt + row.response)
        start = width - len(tokens)
        ids[line, start:], mask[line, start:] = tokens, 1
        scored = start if loss_on == "all" else width - len(row.response)
        labels[line, scored:] = ids[line, scored:]
        if row.hidden is not None:
            places = start + torch.tensor(list(row.hidden))
            labels[line] = IGNORED
            labels[line, places] = ids[line, places]
            ids[line, places] = torch.tensor(list(row.hidden.values()))
    inputs = {"input_ids": ids, "attention_mask": mask}
    return {name: t.to(device) for name, t in inputs.items()}, labels.to(device)


def scored(labels: Tensor) -> int:
    """Return how many tokens of a batch have a loss; the first column is never predicted."""
    return int((labels[:, 1:] != IGNORED).sum())


def plan(examples: list[Example], settings: dict, seed: int) -> int:
    """Return the number of optimizer steps.

    With a token budget it is the number of the step that reaches it, in the order of `batches`. The
    rows are repeated as often as needed.

    Args:
        settings: batch_size, accumulate, and epochs with max_steps, or token_budget.
        seed: of the order of rows.
    """
    per_step = settings["batch_size"] * settings["accumulate"]
    if settings["token_budget"] is None:
        steps = math.ceil(len(examples) / per_step) * settings["epochs"]
        return steps if settings["max_steps"] is None else min(steps, settings["max_steps"])
    seen = 0
    for step, rows in enumerate(_steps(examples, per_step, seed), start=1):
        seen += sum(map(len, rows))
        if seen >= settings["token_budget"]:
            return step
    raise AssertionError("the order of rows has no end")


def batches(
    examples: list[Example], settings: dict, steps: int, seed: int
) -> Iterator[list[list[Example]]]:
    """Yield the micro-batches of each optimizer step; every epoch has an order of its own.

    The rows of a step depend on batch_size × accumulate, not on either number alone.
    """
    size = settings["batch_size"]
    for rows in itertools.islice(_steps(examples, size * settings["accumulate"], seed), steps):
        yield [rows[i : i + size] for i in range(0, len(rows), size)]


def _steps(examples: list[Example], per_step: int, seed: int) -> Iterator[list[Example]]:
    """Yield the rows of each optimizer step without end, the longest row first.

    An epoch's rows are shuffled, sorted by length within each WINDOW of steps, and cut into steps,
    whose order is shuffled again. The last rows that fill no step are the epoch's last, short step.
    """
    generator = torch.Generator().manual_seed(seed)
    full = len(examples) - len(examples) % per_step
    window = WINDOW * per_step
    while True:
        order = torch.randperm(len(examples), generator=generator).tolist()
        rows = [examples[i] for i in order]
        steps = []
        for start in range(0, full, window):
            by_length = sorted(rows[start : min(start + window, full)], key=len, reverse=True)
            steps += [by_length[i : i + per_step] for i in range(0, len(by_length), per_step)]
        for place in torch.randperm(len(steps), generator=generator).tolist():
            yield steps[place]
        if rows[full:]:
            yield sorted(rows[full:], key=len, reverse=True)
