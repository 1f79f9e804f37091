"""Mixtures: how many rows of each part, and which rows are evaluated."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.common.errors import PrunegridError
from prunegrid.data.leak_check import Known, normalised
from prunegrid.data.mixtures import counts

NAMES = ["a", "b", "c"]


@given(
    st.lists(st.integers(1, 400), min_size=3, max_size=3),
    st.lists(st.floats(0.1, 10), min_size=3, max_size=3),
)
def test_shares_are_the_weights_and_as_large_as_the_scarcest_part_allows(sizes, weights):
    available = dict(zip(NAMES, sizes, strict=True))
    given_weights = dict(zip(NAMES, weights, strict=True))
    taken = counts(available, given_weights, None, "x")
    rows, total = sum(taken.values()), math.fsum(weights)
    for name in NAMES:
        assert taken[name] <= available[name]
        assert abs(taken[name] - rows * given_weights[name] / total) < 1
    scarcest = min(available[n] * total / given_weights[n] for n in NAMES)
    assert scarcest - 1 - 1e-6 < rows <= scarcest + 1e-6


@given(st.lists(st.integers(1, 400), min_size=3, max_size=3), st.data())
def test_without_weights_parts_are_mixed_by_their_sizes(sizes, data):
    available, none = dict(zip(NAMES, sizes, strict=True)), dict.fromkeys(NAMES)
    assert counts(available, none, None, "x") == available
    rows = data.draw(st.integers(1, sum(sizes)))
    taken = counts(available, none, rows, "x")
    assert sum(taken.values()) == rows
    assert all(abs(taken[n] - rows * available[n] / sum(sizes)) < 1 for n in NAMES)


def test_a_part_that_is_smaller_than_its_share_is_told():
    with pytest.raises(PrunegridError, match="fewer rows than their share of 100: a 10 of 50"):
        counts({"a": 10, "b": 90}, {"a": 1.0, "b": 1.0}, 100, "x")


@pytest.mark.parametrize(
    "same",
    [
        "How do I mend a cup?",
        "how do i  mend\na CUP",
        "\u201cHow do I mend a cup\u201d",
        "How do I mend a\u00a0cup!",
    ],
)
def test_texts_that_differ_by_case_marks_and_spaces_are_the_same(same):
    assert normalised(same) == "how do i mend a cup"
    assert normalised(same + " now") != "how do i mend a cup"


def test_an_id_tells_only_of_rows_of_one_source():
    known = Known()
    of = {"of": "here", "id": "id", "text": "text"}
    assert known.add([{"id": "7", "text": "A cup."}, {"id": "8", "text": "?!"}], of, "x") == 1
    row = {"id": "7", "text": "another"}
    assert known.holds(row, of, "x") == "id"
    assert known.holds(row, of | {"of": "there"}, "x") is None
    assert known.holds(row, of | {"id": None}, "x") is None
    assert known.holds({"id": "9", "text": "a CUP"}, of | {"of": "there"}, "x") == "text"
    assert known.holds({"id": "9", "text": "..."}, of, "x") is None
