"""The part on costs: it begins with a cost that tells the models apart."""

import re

import pytest

from prunegrid.tables.page.parts import pareto
from tests.helpers import whole_pages
from tests.helpers.figure_world import HALF, ROUGE, World, around


def part_of(*costs):
    """Return the part of a study with a cell for each (bytes_packed, train_seconds)."""
    world = World()
    for number, (size, seconds) in enumerate(costs):
        facts = HALF | {"bytes_packed": size, "train_seconds": seconds, "file_bytes": 500}
        world.cell(f"w{number}", "full", {ROUGE: around(0.3)}, **facts)
    return pareto.part(whole_pages.of(world.control("lead", *ROUGE, 0.2)))


def costs_of(part):
    selector = part.html.partition('id="pareto-cost"')[2]
    return re.findall('<option value="(.*?)"', selector)


@pytest.mark.parametrize(
    ("costs", "first"),
    [
        ([(100, 1.0), (200, 2.0), (300, 3.0), (400, 4.0)], "bytes_packed"),
        ([(100, 1.0), (100, 2.0), (300, 3.0), (300, 4.0)], "bytes_packed"),  # half is enough
        ([(100, 1.0), (100, 2.0), (100, 3.0), (400, 4.0), (400, 5.0)], "train_seconds"),
        # Values that differ by a hair stand on one spot of the axis.
        ([(100, 1.0), (101, 2.0), (102, 3.0), (103, 4.0), (900, 5.0)], "train_seconds"),
        ([(100, 1.0), (100, 1.0), (100, 1.0), (100, 1.0), (400, 2.0)], "bytes_packed"),
    ],
)
def test_the_first_cost_is_one_that_tells_enough_models_apart(costs, first):
    part = part_of(*costs)
    assert costs_of(part) == [first, *(c for c in ("bytes_packed", "train_seconds") if c != first)]
    assert f"“{pareto.COSTS[first][0]}”" in part.caption


def test_the_caption_says_how_many_values_can_be_told_apart():
    assert (
        "2 values that can be told apart, for 4 models"
        in part_of((100, None), (100, None), (300, None), (300, None)).caption
    )
