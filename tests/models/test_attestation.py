"""What is counted on weights, against counting by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.models.attestation import nm_violations


@given(
    rows=st.integers(1, 5),
    groups=st.integers(1, 4),
    size=st.sampled_from([2, 3, 4, 5, 8, 16]),
    data=st.data(),
)
def test_violations_are_those_of_counting_by_hand(rows, groups, size, data):
    keep = data.draw(st.integers(0, size))
    bits = data.draw(
        st.lists(st.booleans(), min_size=rows * groups * size, max_size=rows * groups * size)
    )
    weight = torch.tensor(bits).reshape(rows, groups * size) * -0.5
    by_hand = sum(
        sum(value != 0 for value in row[start : start + size]) > keep
        for row in weight.tolist()
        for start in range(0, len(row), size)
    )
    for same in (weight, weight.bfloat16(), weight.t().contiguous().t()):
        assert nm_violations(same, keep, size) == by_hand


def test_nan_and_a_width_that_the_group_does_not_divide_are_violations():
    assert nm_violations(torch.full((1, 4), float("nan")), 2, 4) == 1
    assert nm_violations(torch.zeros(3, 6), 2, 4) == pytest.approx(6)
