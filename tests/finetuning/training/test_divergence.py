"""Losses that are divergence, and losses that are not."""

from __future__ import annotations

import math

import pytest
import torch

from prunegrid.finetuning.training import divergence


def checked(losses, vocabulary=50000):
    """Feed a run's losses to the guard as the loop does."""
    watch = divergence.Guard(vocabulary, 1e-3, "here")
    for step in range(1, len(losses) + 1):
        watch.check(losses[:step])


RISES = {
    "to the loss of a unigram model": [2.5] * 5 + [2.5 + 0.5 * i for i in range(10)] + [7.4] * 35,
    "at once": [3.0] + [8.0, 9.0, 7.1] * 10,
    "slowly": [2.0 + 0.1 * i for i in range(80)],
}


@pytest.mark.parametrize("name", RISES)
def test_a_loss_that_rises_far_and_stays_is_divergence(name):
    losses = RISES[name]
    with pytest.raises(divergence.Diverged, match="30 losses") as caught:
        checked(losses)
    assert "chance 10.82" in str(caught.value)


def test_a_loss_far_above_chance_is_divergence():
    with pytest.raises(divergence.Diverged, match="step 5: a mean loss"):
        checked([3.0] + [40.0] * 5)
    with pytest.raises(divergence.Diverged, match="step 2: loss nan"):
        checked([3.0, math.nan])
    with pytest.raises(divergence.Diverged, match="gradient norm inf"):
        divergence.Guard(100, 1e-3, "here").check([1.0], math.inf)


SOUND = {
    "does not fall": [4.0] * 200,
    "falls slowly": [4.0 - 0.001 * i for i in range(200)],
    "a spike that passes": [2.5] * 40 + [9.0] * 25 + [2.5] * 100,
    "rises a little and stays": [2.5] * 10 + [3.4] * 200,
    "of a badly pruned model, above chance": [14.0] * 30 + [9.0] * 100,
    "of a model that knows it all": [0.02] * 20 + [0.2] * 100,
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_run_is_not_stopped(name):
    checked(SOUND[name])


@pytest.mark.parametrize(("level", "noise"), [(1.0, 0.4), (3.0, 0.4), (6.0, 0.4), (9.0, 0.2)])
def test_noisy_batches_are_not_divergence(level, noise):
    """Batches of one row, of which the first happens to be the easiest of 20."""
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        drawn = noise * torch.randn(300, generator=draw)
        losses = (level * torch.exp(drawn)).tolist()
        checked([min(losses[:20]), *losses])
