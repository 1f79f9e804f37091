"""Brackets: which closing bracket may follow a row of brackets of four kinds.

The right one closes the bracket that was opened last of those still open. A row ends with a closed
bracket, and at least two are open, so that neither the last bracket nor any that is open tells it.
In every length each kind is the right one, the first one opened, and the last one closed equally
often, in every combination. So no place of an option, and neither end of the row, gives more than
CHANCE.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

SEED = 1203
LENGTHS = range(4, 20, 2)  # brackets of the row
OPENING, CLOSING = "([{<", ")]}>"
KINDS = range(len(OPENING))
LEAST_OPEN = 2
CHANCE = 1 / len(OPENING)


def items() -> list[dict[str, Any]]:
    """Return rows {id, question, options, answer, length, text}, lengths in turn.

    `length` is the number of brackets of the question.
    """
    draw = random.Random(SEED)
    rounds = list(itertools.product(KINDS, KINDS, KINDS))
    draw.shuffle(rounds)
    seen: set[str] = set()
    rows = []
    for answer, first, last in rounds:
        for length in LENGTHS:
            question = _row(draw, length, (answer, first, last), seen)
            row = {"id": f"brackets-{len(rows)}", "question": question, "options": list(CLOSING)}
            rows.append(row | {"answer": answer, "length": length, "text": question})
    return rows


def _row(draw: random.Random, length: int, wanted: tuple[int, int, int], seen: set[str]) -> str:
    """Return a new row of brackets, of which kinds are wanted: (to close, first, last)."""
    while True:
        brackets, stack = _walk(draw, length)
        if len(stack) < LEAST_OPEN or brackets[-1] not in CLOSING:
            continue
        ends = (stack[-1], OPENING.index(brackets[0]), CLOSING.index(brackets[-1]))
        question = " ".join(brackets)
        if ends == wanted and question not in seen:
            seen.add(question)
            return question


def _walk(draw: random.Random, length: int) -> tuple[list[str], list[int]]:
    """Return brackets that are opened or closed at random, and the kinds that are still open."""
    brackets, stack = [], []
    for _ in range(length):
        if stack and draw.random() < 0.5:
            brackets.append(CLOSING[stack.pop()])
        else:
            stack.append(draw.choice(KINDS))
            brackets.append(OPENING[stack[-1]])
    return brackets, stack
