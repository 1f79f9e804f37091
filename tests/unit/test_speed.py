"""Speeds beside the dense model's: the ratio of medians, its interval, and what is compared."""

from __future__ import annotations

import numpy
import pytest

from prunegrid.artifacts import write_json
from prunegrid.tables import speed

PLAN = {"bootstrap_seed": 0}


def test_a_ratio_is_that_of_medians_and_above_one_is_faster():
    value, low, high = speed.ratio(PLAN, numpy.array([1.0, 2.0, 9.0]), numpy.array([4.0, 4.0, 4.0]))
    assert value == 2.0 and low <= value <= high
    assert (low, high) == (4 / 9, 4.0)


def test_twice_as_slow_is_half_the_speed_with_the_interval_turned():
    draw = numpy.random.default_rng(1)
    mine, theirs = draw.lognormal(0, 0.1, 9), draw.lognormal(0, 0.1, 9)
    value, low, high = speed.ratio(PLAN, mine, theirs)
    slower = speed.ratio(PLAN, 2 * mine, theirs)
    assert slower == pytest.approx((value / 2, low / 2, high / 2))
    assert speed.ratio(PLAN, mine, theirs) == (value, low, high)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Of equal speeds, 1 lies within it in most draws, and without it in some."""
    draw = numpy.random.default_rng(2)
    inside = 0
    for _ in range(100):
        _, low, high = speed.ratio(PLAN, draw.lognormal(0, 0.2, 15), draw.lognormal(0, 0.2, 15))
        inside += low <= 1 <= high
    assert 85 <= inside < 100


def test_one_repetition_has_no_interval():
    assert speed.ratio(PLAN, numpy.array([2.0]), numpy.array([1.0, 3.0])) == (1.0, None, None)


def cell(folder, steps, seconds, **facts):
    folder.mkdir()
    repetitions = {"prefill_seconds": seconds, "decode_seconds": [10 * s for s in seconds]}
    facts = {"device": "cpu", "threads": 1, "settings": {"repetitions": 2, "sizes": True}} | facts
    write_json(folder / "efficiency.json", facts | {"repetitions": repetitions})
    return {"efficiency": {"path": str(folder)}, "chain": [{}] * (1 + steps)}


def test_only_like_is_compared_with_like(tmp_path):
    cells = [
        cell(tmp_path / "dense", 0, [1.0, 1.0]),
        cell(tmp_path / "same", 1, [2.0, 2.0], settings={"repetitions": 2, "sizes": False}),
        cell(tmp_path / "threads", 1, [2.0, 2.0], threads=2),
        cell(tmp_path / "device", 1, [2.0, 2.0], device="a card"),
        cell(tmp_path / "settings", 1, [2.0, 2.0], settings={"repetitions": 3}),
        cell(tmp_path / "model", 1, [2.0, 2.0]),
        cell(tmp_path / "dtype", 1, [2.0, 2.0]),
        cell(tmp_path / "failed", 1, [2.0, 2.0]),
        {"efficiency": None, "chain": [{}, {}]},
    ]
    rows = [{"model": "m", "dtype": "float32", "status": "ok"} for _ in cells]
    rows[5]["model"], rows[6]["dtype"], rows[7]["status"] = "other", "bfloat16", "failed"
    speed.add_ratios(PLAN | {"cells": cells}, rows)
    assert [("decode_speed_vs_dense" in row) for row in rows] == [False, True] + [False] * 7
    assert rows[1]["prefill_speed_vs_dense"] == rows[1]["decode_speed_vs_dense_low"] == 0.5
