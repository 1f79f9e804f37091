"""Ranges: the values that a list would hold, exact in decimals, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.config import ranges
from prunegrid.config.grid import expand
from tests.helpers import shipped
from tests.helpers.shipped import check, faults


@given(st.integers(0, 50), st.integers(1, 20), st.integers(0, 30))
def test_steps_of_hundredths_give_the_decimals_that_one_would_write(first, step, count):
    written = [float(f"{(first + k * step) / 100:.2f}") for k in range(count + 1)]
    bounds = {"from": written[0], "to": written[-1], "step": step / 100}
    assert ranges.unrolled(bounds) == written


def test_the_last_value_is_the_last_that_is_reached():
    assert ranges.unrolled({"from": 0.3, "to": 0.75, "step": 0.2}) == [0.3, 0.5, 0.7]
    assert ranges.unrolled({"from": 0, "to": 3}) == [0, 1, 2, 3]
    assert ranges.unrolled({"shape": "linear", "to": 0.5}) == {"shape": "linear", "to": 0.5}


def study(grid):
    raw = shipped.config()
    grid = {"model": "smollm2-135m", **grid}
    raw["studies"] = {"s": {"dataset": "aclsum", "grid": grid, "evaluations": ["wikipedia-512"]}}
    return raw


BODY = {"method": ["sparsegpt"], "calibration": "wiki-16x256"}
ITERATE = {"prune": {"method": "magnitude"}, "arms": ["one-shot"]}
RANGE = {"from": 0.3, "to": 0.5, "step": 0.1}


@pytest.mark.parametrize(
    ("of_list", "of_range"),
    [
        (
            {"prune": BODY | {"sparsity": [0.3, 0.4, 0.5]}},
            {"prune": BODY | {"sparsity": RANGE}},
        ),
        (
            {"iterate": ITERATE | {"sparsities": [0.3, 0.4, 0.5]}},
            {"iterate": ITERATE | {"sparsities": RANGE}},
        ),
        (
            {"prune": "wiki-wanda-50", "seed": [2, 3]},
            {"prune": "wiki-wanda-50", "seed": {"from": 2, "to": 3}},
        ),
    ],
)
def test_a_range_makes_the_cells_of_its_list(of_list, of_range):
    assert expand(check(study(of_range)), "s") == expand(check(study(of_list)), "s")


def test_a_named_profile_has_one_sparsity_and_says_where_a_range_goes():
    raw = shipped.config()
    raw["prune"]["wanda-50"]["sparsity"] = RANGE
    (fault,) = faults(raw)
    assert "prune.wanda-50.sparsity" in fault and "grid" in fault


@pytest.mark.parametrize(
    "wrong", [{"from": 0.5, "to": 0.3}, {"from": 0, "to": 1, "step": 0}, {"from": "a", "to": 1}]
)
def test_a_wrong_range_is_told_with_its_place(wrong):
    told = faults(study({"prune": BODY | {"sparsity": wrong}}))
    assert any("sparsity" in fault and "range" in fault for fault in told)
