"""The part on contrasts: ratios on a symmetric logarithmic axis, and both sides by name."""

import math
import re

import pytest

from prunegrid.tables.files import typed_frame
from prunegrid.tables.page.parts import verdicts_forest
from prunegrid.tables.schema import CONTRASTS
from tests.helpers import whole_pages
from tests.helpers.figure_world import HALF, PAIR, ROUGE, WIKI, World, around

MODELS = {"w50": HALF, "w24": PAIR, "twin": HALF}


def part_of(*rows, models=("m",)):
    world = World()
    for model in models:
        for prune, facts in MODELS.items():
            world.cell(prune, scores={WIKI: around(30.0), ROUGE: around(0.3)}, model=model, **facts)
    facts = whole_pages.of(world.control("lead", *ROUGE, 0.2))
    empty = {column.name: None for column in CONTRASTS} | {"study": "s", "verdict": "worse"}
    facts.frames["contrasts."] = typed_frame([empty | row for row in rows], CONTRASTS)
    return verdicts_forest.part(facts)


def contrast(low, value, high, *, a="m / d / w24 / none", b="m / d / w50 / none", **more):
    row = {"contrast": "c", "a": a, "b": b, "split": WIKI[0], "metric": WIKI[1], "n": 16}
    return row | {"effect": "ratio", "value": value, "low": low, "high": high} | more


def scale_of(part):
    (panel,) = part.charts[verdicts_forest.CHART]["vconcat"]
    (x,) = [
        layer["encoding"]["x"]
        for layer in panel["layer"]
        if layer["encoding"].get("x", {}).get("field") == "value"
    ]
    return x["scale"], x["axis"].get("values")


@pytest.mark.parametrize(
    "ends", [(0.97, 1.0, 1.04), (0.2, 0.4, 0.8), (1.2, 3.0, 70.0), (0.001, 0.5, 2.0)]
)
def test_ratios_stand_on_a_logarithmic_axis_that_is_symmetric_round_one(ends):
    scale, ticks = scale_of(part_of(contrast(*ends)))
    low, high = scale["domain"]
    assert scale["type"] == "log" and math.isclose(low * high, 1.0)
    assert low < min(ends) and max(ends) < high
    assert ticks == sorted(ticks) and 3 <= len(ticks) <= 9 and 1.0 in ticks
    assert low <= ticks[0] < 1 < ticks[-1] <= high


def test_differences_stand_on_a_linear_axis():
    row = contrast(-0.1, 0.1, 0.2, effect="difference", split=ROUGE[0], metric=ROUGE[1])
    scale, _ = scale_of(part_of(row))
    assert "type" not in scale and "domain" not in scale


def test_both_sides_are_named():
    part = part_of(contrast(1.1, 1.2, 1.3))
    (row,) = part.data["contrasts"]
    assert (row["first"], row["second"]) == ("Wanda, 2:4; not tuned", "Wanda, 50% zeros; not tuned")
    assert row["first"] in row["sides"] and row["second"] in row["sides"]
    heads = re.findall('<th scope="col">(.*?)</th>', part.html)
    assert "first model" in heads and not {"a", "b"} & set(heads)
    assert row["where"].endswith("first divided by second; lower is better")
    assert "whether the first model is better or worse than the second" in part.html


def test_sides_of_one_name_have_those_of_their_profiles():
    (row,) = part_of(contrast(0.9, 1.0, 1.1, a="m / d / twin / none")).data["contrasts"]
    assert (row["first"], row["second"]) == ("twin / none", "w50 / none")


def test_models_are_named_where_there_are_several():
    part = part_of(contrast(0.9, 1.0, 1.1, b="other / d / w50 / none"), models=("m", "other"))
    (row,) = part.data["contrasts"]
    assert row["first"].endswith("(m on d)") and row["second"].endswith("(other on d)")


def test_contrasts_of_one_name_have_a_line_each():
    part = part_of(contrast(0.9, 1.0, 1.1), contrast(0.8, 0.9, 0.95))
    assert [row["order"] for row in part.data["contrasts"]] == [0, 1]
