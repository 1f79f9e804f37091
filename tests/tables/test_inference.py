"""Paired inference: against enumeration, a hand example, known symmetries and simulation."""

import itertools
import math
import statistics

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunegrid.tables import inference
from prunegrid.tables.inference import (
    detectable,
    deviation,
    effect,
    holm,
    interval,
    least_p,
    sign_flip_p,
)

ONE = numpy.ones


def enumerated(d, one_sided=False):
    """Return the exact p-value, one set of signs at a time."""
    reached = total = 0
    for signs in itertools.product((-1, 1), repeat=len(d)):
        drawn = sum(s * x for s, x in zip(signs, d, strict=True))
        seen = sum(d)
        hit = drawn >= seen - 1e-9 if one_sided else abs(drawn) >= abs(seen) - 1e-9
        reached, total = reached + hit, total + 1
    return reached / total


numbers = st.lists(
    st.floats(-5, 5, allow_nan=False).map(lambda x: round(x, 2)), min_size=1, max_size=9
)


@given(d=numbers, one_sided=st.booleans())
@settings(max_examples=60)
def test_few_items_are_tested_exactly(d, one_sided):
    assert sign_flip_p(numpy.array(d), 0, one_sided) == pytest.approx(enumerated(d, one_sided))


def test_drawn_signs_come_near_the_exact_value(monkeypatch):
    d = numpy.random.default_rng(1).normal(0.35, 1, 13)
    exact = enumerated(d)
    monkeypatch.setattr(inference, "EXACT", 4)
    assert sign_flip_p(d, 0) == pytest.approx(exact, abs=0.015)
    assert sign_flip_p(d, 0) != exact


def test_a_drawn_p_is_never_zero():
    assert sign_flip_p(ONE(40), 0) == 1 / (inference.DRAWS + 1)


@given(seed=st.integers(0, 50), scale=st.sampled_from([0.5, 2.0, 1024.0]))
@settings(max_examples=25)
def test_swapping_and_scaling_change_no_p(seed, scale):
    d = numpy.random.default_rng(seed).normal(0.3, 1, 20)
    assert sign_flip_p(d, 0) == sign_flip_p(-d, 0) == sign_flip_p(scale * d, 0)


def test_four_items_can_never_be_told_apart():
    assert sign_flip_p(numpy.array([3.0, 4.0, 5.0, 9.0]), 0) == 2 / 16


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # One that was not measured still counts: its place in the family was declared.
    assert holm([0.02, None, 0.9]) == [pytest.approx(0.06), None, 1.0]
    assert holm([]) == []


def test_the_false_alarms_of_the_test_and_the_coverage_of_the_interval():
    """400 samples of 16 differences each: 5% of tests reject, 95% of intervals cover."""
    generator = numpy.random.default_rng(5)
    true = 0.5
    rejected = covered = plain = 0
    rounds = 400
    for _ in range(rounds):
        symmetric = generator.normal(0, 1, 16)
        rejected += sign_flip_p(symmetric, 3) <= 0.05
        d = true + symmetric * 0.3
        low, high = interval(d, ONE(16), 3)
        covered += low <= true <= high
        picks = generator.integers(0, 16, size=(400, 16))
        low, high = numpy.quantile(d[picks].mean(axis=1), [0.025, 0.975])
        plain += low <= true <= high
    assert 0.02 <= rejected / rounds <= 0.08
    assert 0.92 <= covered / rounds <= 0.98
    assert covered > plain


def test_intervals_move_with_the_data():
    d = numpy.random.default_rng(0).normal(0.1, 1, 30)
    low, high = interval(d, ONE(30), 0)
    assert interval(d + 5, ONE(30), 0) == pytest.approx((low + 5, high + 5))
    assert interval(4 * d, ONE(30), 0) == pytest.approx((4 * low, 4 * high))
    # The drawn items are the same for both, so the other side's view is the mirror's.
    assert interval(-d, ONE(30), 0) == pytest.approx((-high, -low))
    assert interval(d[:1], ONE(1), 0) is None


def test_weights_are_the_units_of_a_ratio():
    d, w = numpy.array([2.0, 3.0, 1.0]), numpy.array([10.0, 20.0, 10.0])
    assert effect(d, w) == 6 / 40
    assert deviation(d * 2, ONE(3) * 2) == pytest.approx(statistics.stdev(d.tolist()))
    residuals = [2 - 1.5, 3 - 3.0, 1 - 1.5]
    expected = math.sqrt(sum(r * r for r in residuals) / 2) / (40 / 3)
    assert deviation(d, w) == pytest.approx(expected)


def test_what_is_called_detectable_is_found_in_four_of_five():
    n, sd = 24, 2.0
    least = detectable(sd, n)
    assert least == pytest.approx((2.06866 + 0.85753) * sd / math.sqrt(n), rel=1e-5)
    generator = numpy.random.default_rng(2)
    samples = generator.normal(least, sd, size=(4000, n))
    t = samples.mean(axis=1) / (samples.std(axis=1, ddof=1) / math.sqrt(n))
    assert 0.77 <= (numpy.abs(t) > 2.0687).mean() <= 0.83
    assert detectable(None, 1) is None and detectable(0.0, 24) is None


def test_the_least_p_value_is_that_of_differences_of_one_sign():
    for n in (*range(1, 15), 40):
        assert least_p(n) == pytest.approx(sign_flip_p(ONE(n), 0))


def test_what_the_test_cannot_reach_is_not_called_detectable():
    for n in range(2, 9):
        reachable = sign_flip_p(ONE(n), 0) <= 0.05
        assert (detectable(1.0, n) is not None) is reachable is (n > 5)
