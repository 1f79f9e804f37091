"""Ratios of speed: what the pairs of turns say, and how sure it is."""

import math
import statistics

import numpy
import pytest

from prunegrid.evaluation import speed_ratio
from prunegrid.evaluation.speed import Turn


def test_the_interval_is_students_over_pairs():
    found = speed_ratio.ratio([1.0, 1.1, 0.9, 1.2, 1.0], [1.0] * 5)
    error = statistics.stdev(map(math.log, [1.0, 1.1, 0.9, 1.2, 1.0])) / math.sqrt(5)
    half = 8.6103 * error + math.log(1.02)  # the quantile of a table: 99.9%, four degrees
    assert found["high"] == pytest.approx(found["value"] * math.exp(half), rel=1e-5)
    assert found["low"] == pytest.approx(found["value"] / math.exp(half), rel=1e-5)


def test_a_ratio_is_that_of_pairs_and_above_one_is_faster():
    theirs = [4.0, 8.0, 2.0, 16.0, 4.0]
    found = speed_ratio.ratio(theirs, [2.0, 4.0, 1.0, 8.0, 2.0])
    # Turns of a pair agree to the digit though the machine's speed changes eightfold.
    assert found["value"] == pytest.approx(2.0)
    assert found["low"] == pytest.approx(2 / 1.02) and found["high"] == pytest.approx(2 * 1.02)
    assert found["verdict"] == "faster"


def test_exchanging_the_sides_turns_the_interval():
    draw = numpy.random.default_rng(1)
    mine, theirs = draw.lognormal(0, 0.1, 9), draw.lognormal(0.2, 0.1, 9)
    found, turned = speed_ratio.ratio(theirs, mine), speed_ratio.ratio(mine, theirs)
    assert found["low"] < found["value"] < found["high"]
    for end, other in (("value", "value"), ("low", "high"), ("high", "low")):
        assert turned[end] == pytest.approx(1 / found[other])


def test_a_unit_of_time_changes_nothing():
    draw = numpy.random.default_rng(2)
    mine, theirs = draw.lognormal(0, 0.1, 5), draw.lognormal(0.3, 0.1, 5)
    slow = speed_ratio.ratio(1000 * theirs, 1000 * mine)
    for name, value in speed_ratio.ratio(theirs, mine).items():
        assert slow[name] == (value if isinstance(value, str) else pytest.approx(value))


@pytest.mark.parametrize("pairs", [1, 4])
def test_few_pairs_have_a_value_and_no_verdict(pairs):
    found = speed_ratio.ratio([2.0] * pairs, [1.0] * pairs)
    assert found == {"value": 2.0, "low": None, "high": None, "verdict": None}


@pytest.mark.parametrize("pairs", [5, 30])
@pytest.mark.parametrize("noise", ["even", "bursts", "drift"])
def test_of_equal_models_next_to_no_interval_excludes_one(pairs, noise):
    """Of a thousand tables of twenty rows, few may call any model faster than itself."""
    draw = numpy.random.default_rng(3)
    wrong = 0
    for _ in range(4000):
        wrong += speed_ratio.ratio(*_equal(draw, pairs, noise))["verdict"] != "not distinguishable"
    assert wrong <= 12  # 0.3%


def _equal(draw, pairs, noise):
    """Return the seconds of two equal models that take turns."""
    seconds = draw.lognormal(0, 0.03, (pairs, 2))
    if noise == "bursts":  # a neighbour that takes half of the machine now and then
        seconds *= numpy.where(draw.random((pairs, 2)) < 0.3, 2.0, 1.0)
    if noise == "drift":
        at = numpy.arange(2 * pairs).reshape(pairs, 2)
        at[1::2] = at[1::2, ::-1]  # the order is swapped from pair to pair
        seconds *= 1 + 0.02 * at
    return seconds[:, 0], seconds[:, 1]


def test_one_wild_pair_makes_the_interval_wide_and_no_verdict():
    calm = [1.0, 1.01, 0.99, 1.0, 1.01]
    found = speed_ratio.ratio([*calm[:4], 9.0], calm)
    assert found["low"] < 1 < found["high"]


def test_a_hopeless_interval_can_be_written_as_json():
    found = speed_ratio.ratio([1e-300, 1.0, 1e300, 1.0, 1.0], [1.0] * 5)
    assert math.isfinite(found["high"]) and found["low"] > 0


def test_turns_of_other_rounds_are_no_pairs():
    def turn(model, number):
        return Turn(model, number, {"prefill": 1.0}, 1.0, 1.0, None, None, None, None)

    turns = [turn("dense", 0), turn("cell", 1)]
    with pytest.raises(ValueError, match="no pairs"):
        speed_ratio.ratios(turns, "cell", "dense")
