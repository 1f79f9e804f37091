"""A task that the dense model cannot do both ways ranks no model."""

from __future__ import annotations

import pytest

from prunegrid.tables import dense_at_chance


def row(prune, metric, value, at_chance=None, *, model="m", split="illusion_sums", finetune="none"):
    about = {"model": model, "dataset": "d", "prune": prune, "finetune": finetune}
    return {
        **about, "split": split, "metric": metric, "value": value, "at_chance": at_chance,
        "chance": 0.25,
    }  # fmt: skip


def rows(recognised, produced, **named):
    return [
        row("dense", "recognised", 0.31, recognised, **named),
        row("dense", "produced", 0.12, produced, **named),
        row("dense", "flips_right_wrong", 0.0, **named),
        row("w50", "recognised", 0.9, False, **named),
        row("w50", "recognised_not_produced", 0.4, **named),
    ]


@pytest.mark.parametrize(("recognised", "produced"), [(True, False), (False, True), (True, True)])
def test_all_scores_of_the_task_are_unranked_and_a_sentence_says_so(recognised, produced):
    long = rows(recognised, produced)
    (note,) = dense_at_chance.mark(long)
    assert all(each["at_chance"] for each in long)
    for word in ("illusion_sums", "dense m", "chance (0.25)", "recognised 0.31, produced 0.12"):
        assert word in note


def test_a_task_that_dense_does_both_ways_stays_as_it_is():
    long = rows(False, False)
    assert dense_at_chance.mark(long) == [] and long == rows(False, False)


def test_other_models_tasks_and_tuned_rows_do_not_count():
    long = rows(False, False)
    others = rows(True, True, model="other") + rows(True, True, split="illusion_cloze")
    tuned = [row("dense", "produced", 0.1, True, finetune="full")]
    assert len(dense_at_chance.mark(long + others + tuned)) == 2
    assert long == rows(False, False)
    assert dense_at_chance.mark([row("w50", "recognised", 0.2, True)]) == []
