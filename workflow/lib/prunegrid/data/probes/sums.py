"""Sums of two numbers, with one right option and three that look alike.

The options are the four numbers that two digits of the right sum, each as it is or replaced, give:
they share all other digits, and seen without the question each could be the right one. In every
length the right option stands in each place, and is each of smallest to largest, equally often. So
no place, length or size of an option gives more than CHANCE.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

SEED = 1202
LENGTHS = range(2, 8)  # digits of each number that is added
OPTIONS = 4
REPEATS = 6  # of each place and rank of the right option, in each length
CHANCE = 1 / OPTIONS


def items() -> list[dict[str, Any]]:
    """Return rows {id, question, options, answer, length, text}, lengths in turn.

    `length` is the number of digits of each number that is added.
    """
    draw = random.Random(SEED)
    rounds = [(answer, rank) for answer in range(OPTIONS) for rank in range(OPTIONS)] * REPEATS
    draw.shuffle(rounds)
    seen: set[str] = set()
    rows = []
    for answer, rank in rounds:
        for length in LENGTHS:
            question, options = _item(draw, length, answer, rank, seen)
            row = {"id": f"sums-{len(rows)}", "question": question, "options": options}
            rows.append(row | {"answer": answer, "length": length, "text": question})
    return rows


def _item(
    draw: random.Random, length: int, answer: int, rank: int, seen: set[str]
) -> tuple[str, list[str]]:
    """Return a new question, and options of which the one at `answer` is right and of a rank."""
    while True:
        first, second = (draw.randrange(10 ** (length - 1), 10**length) for _ in range(2))
        question, right = f"{first} + {second} =", str(first + second)
        options = _alike(draw, right)
        if question not in seen and sorted(options).index(right) == rank:
            break
    seen.add(question)
    options.remove(right)
    draw.shuffle(options)
    return question, [*options[:answer], right, *options[answer:]]


def _alike(draw: random.Random, right: str) -> list[str]:
    """Return the four numbers that two digits, each kept or replaced, make of a number.

    They have as many digits as it has. A first digit of a longer number is kept, since it is 1 in
    every sum that has one digit more than what is added.
    """
    places = sorted(draw.sample(range(len(right) > 2, len(right)), 2))
    pairs = []
    for place in places:
        others = set("123456789" if place == 0 else "0123456789") - {right[place]}
        pairs.append((right[place], draw.choice(sorted(others))))
    return [
        right[: places[0]] + a + right[places[0] + 1 : places[1]] + b + right[places[1] + 1 :]
        for a, b in itertools.product(*pairs)
    ]
