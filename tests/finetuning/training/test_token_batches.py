"""Rows of each optimizer step: all of them once an epoch, few pads, token budgets."""

from __future__ import annotations

import pytest
import torch

from prunegrid.finetuning.training import token_batches


def examples(count=10, seed=0):
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 9, (count, 2), generator=draw).tolist()
    return [token_batches.Example([7] * a, [9] * b) for a, b in sizes]


def like_aclsum(count, seed=0):
    """Return rows whose lengths spread as those of paper abstracts and their summaries do."""
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.randint(150, 401, (count,), generator=draw).tolist()
    return [token_batches.Example([i] * (size - 30), [i] * 30) for i, size in enumerate(sizes)]


def order_of(rows, size, accumulate, epochs, seed=3):
    """Return the micro-batches of each step."""
    settings = {"batch_size": size, "accumulate": accumulate, "token_budget": None}
    settings |= {"epochs": epochs, "max_steps": None}
    steps = token_batches.plan(rows, settings, seed)
    return list(token_batches.batches(rows, settings, steps, seed))


@pytest.mark.parametrize(("count", "size", "accumulate"), [(100, 4, 1), (101, 2, 4), (7, 8, 2)])
def test_every_row_is_learned_once_an_epoch(count, size, accumulate):
    rows, per_step = like_aclsum(count), size * accumulate
    steps = order_of(rows, size, accumulate, epochs=3)
    each = -(-count // per_step)
    assert len(steps) == 3 * each
    epochs = [steps[i : i + each] for i in range(0, len(steps), each)]
    for epoch in epochs:
        seen = [row.prompt[0] for micro in epoch for batch in micro for row in batch]
        assert sorted(seen) == list(range(count))
        # Rows a step stay as configured, and only the last one may have fewer.
        sizes = [sum(map(len, micro)) for micro in epoch]
        assert sizes == [per_step] * (each - 1) + [count - per_step * (each - 1)]
    assert count < 10 or epochs[0] != epochs[1]


def test_the_rows_of_a_step_do_not_depend_on_its_micro_batches():
    rows = like_aclsum(90)
    made = [order_of(rows, size, 8 // size, epochs=2) for size in (1, 2, 8)]
    flat = [[[row for batch in micro for row in batch] for micro in steps] for steps in made]
    assert flat[0] == flat[1] == flat[2]


def pads(batches):
    """Return the share of pads among the positions of batches."""
    widths = [len(rows) * max(map(len, rows)) for rows in batches]
    return 1 - sum(len(row) for rows in batches for row in rows) / sum(widths)


def test_rows_of_like_length_share_a_step_and_steps_are_in_no_order():
    rows = like_aclsum(320)
    for size in (2, 4, 8):
        micro = [batch for step in order_of(rows, size, 1, epochs=1) for batch in step]
        plain = [rows[i : i + size] for i in range(0, len(rows), size)]
        assert pads(micro) < 0.1 < pads(plain)
        longest = [max(map(len, batch)) for batch in micro]
        rising = sum(one < two for one, two in zip(longest, longest[1:], strict=False))
        assert 0.3 < rising / len(longest) < 0.7


@pytest.mark.parametrize("budget", [1, 30, 89, 90, 91, 400])
def test_a_budget_ends_at_the_step_that_reaches_it(budget):
    settings = {"batch_size": 2, "accumulate": 2, "token_budget": budget}
    rows = examples()
    steps = token_batches.plan(rows, settings, seed=3)
    seen = [
        sum(len(row) for micro in step for row in micro)
        for step in token_batches.batches(rows, settings, steps, seed=3)
    ]
    assert sum(seen[:-1]) < budget <= sum(seen) and len(seen) == steps
