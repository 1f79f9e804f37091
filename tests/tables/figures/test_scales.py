"""The axes of figures: what they reach, what lies beyond them, and the numbers at them."""

import math

import pytest

from prunegrid.tables.figures import display_names, scales
from prunegrid.tables.figures.points import Score
from prunegrid.tables.figures.styles import style


def score(value, low=None, high=None):
    return Score(value, low, high, (value,))


def fit(values, log=False, **named):
    return scales.fit([score(v) for v in values], log=log, **{"ticks": 6} | named)


STRUCTURED = [19.57, 26.83, 59.76, 28.78, 52.04, 102.49, 27.09, 84.94, 49.13, 28.85, 27.33, 45.43]


def test_one_value_that_is_far_off_flattens_no_other():
    scale = fit([*STRUCTURED, 19677.0], log=True)
    assert scale.is_log and scale.beyond(19677.0) == "high" and scale.within(19677.0) == scale.high
    assert [scale.beyond(value) for value in STRUCTURED] == [""] * len(STRUCTURED)
    span = math.log(scale.high / scale.low)
    assert math.log(102.49 / 19.57) > 0.8 * span  # the others fill the axis


def test_a_spread_without_a_gap_is_shown_whole():
    values = [17.0, 20.0, 41.0, 44.0, 66.0, 82.0, 110.0, 1100.0]
    scale = fit(values, log=True)
    assert not any(scale.beyond(value) for value in values)


def test_at_most_a_fifth_lies_beyond_and_either_end_may():
    low = fit([0.3, 0.31, 0.32, 0.33, 0.01])
    assert low.beyond(0.01) == "low" and low.beyond(0.3) == ""
    two = [1.0, 1.1, 1.2, 1.3, 1.05, 1.15, 1.25, 1.35, 90.0, 95.0]
    assert fit(two).beyond(90.0) == "high"
    assert fit(two, clip=False).beyond(95.0) == ""
    assert fit(two[-5:]).beyond(90.0) == ""


def test_what_intervals_nearly_reach_is_not_far_off():
    values = [0.34, 0.34, 0.34, 0.35, 0.28]
    wide = [score(v, v - 0.12, v + 0.12) for v in values]
    scale = scales.fit(wide, log=False, ticks=6)
    assert not any(scale.beyond(s.low) or scale.beyond(s.high) for s in wide)
    assert scales.fit([score(v) for v in values], log=False, ticks=6).beyond(0.28) == "low"


def test_one_endless_interval_does_not_set_the_axis():
    scores = [score(v, v - 0.01, v + 0.01) for v in (0.3, 0.31, 0.32)]
    scale = scales.fit([*scores, score(0.315, 0.0, 5.0)], log=False, ticks=6)
    assert scale.high < 1 and scale.beyond(5.0) == "high"


def test_positive_values_over_decades_get_a_log_axis_only_if_they_would_be_crowded():
    assert fit([1.0, 2.0, 3.0, 8.0, 40.0, 200.0, 900.0]).is_log
    assert not fit([0.007, 0.2, 0.3, 0.34, 0.31]).is_log  # one small value flattens nothing
    assert not fit([-1.0, 2.0, 3.0, 8.0, 40.0, 200.0, 900.0]).is_log


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("ticks", [2, 3, 5, 8])
@pytest.mark.parametrize(
    "values",
    [
        (0.1, 0.4),
        (17.4, 17.5),
        (16.0, 60000.0),
        (3.0,),
        (30.0, 30.000000000000004),
        (0.0, 1.0),
        (1e-4, 2e-4),
        (5e5, 4e6),
    ],
)
def test_ticks_are_plain_numbers_that_have_room(values, ticks, log):
    scale = fit(values, log=log, ticks=ticks)
    assert 1 <= len(scale.ticks) <= max(ticks, 2)
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks)
    told = scale.labels()
    assert len(set(told)) == len(told)
    assert not any("e" in text or "×" in text or "$" in text for text in told)


def test_an_axis_of_no_values_is_there():
    assert scales.fit([], log=True, ticks=5).ticks
    assert scales.fit([score(math.inf)], log=True, ticks=5).beyond(math.inf) == "high"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.3451, "0.345"),
        (19.57, "19.6"),
        (1095.4, "1,095"),
        (34608.2, "34,608"),
        (2.5e6, "2.5 million"),
        (math.inf, "∞"),
        (7.123, "7.12"),
    ],
)
def test_numbers_are_written_as_people_do(value, text):
    assert display_names.number(value) == text


def test_no_two_series_look_alike():
    looks = [style(index) for index in range(56)]
    assert len(set(looks)) == 56
    assert len({look.colour for look in looks[:7]}) == 7
    for index in range(0, 49):  # the same colour again: another marker and other dashes
        one, other = looks[index], looks[index + 7]
        assert (one.colour, one.marker, one.dashes) != (other.colour, other.marker, other.dashes)
        assert one.marker != other.marker
