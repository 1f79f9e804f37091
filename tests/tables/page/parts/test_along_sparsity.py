"""The part on sweeps: its points are scores of the long table, and cliffs are marked."""

import math

import pandas
import pytest

from prunegrid.tables.files import typed_frame
from prunegrid.tables.page.parts import along_sparsity
from prunegrid.tables.schema import CLIFFS
from tests.helpers.figure_world import WIKI, World, around
from tests.helpers.page_world import facts

LEVELS = (0.3, 0.5, 0.7)


def world(**plan):
    made = World(**plan).cell(scores={WIKI: around(20.0)})
    for level in LEVELS:
        made.cell(f"w{level}", scores={WIKI: around(30.0 / level)}, sparsity_target=level)
    return made


def part_of(made, cliffs=()):
    plan, wide, tall = made.tables()
    frames = {"cliffs.": typed_frame(list(cliffs), CLIFFS)}
    return along_sparsity.part(facts([], plan=plan, wide=wide, tall=tall, frames=frames))


def test_each_point_is_a_score_at_its_measured_sparsity():
    part = part_of(world())
    rows = part.data["along_sparsity"]
    pruned = [row for row in rows if row["line"] and row["place"]]
    assert [row["place"] for row in pruned] == pytest.approx([100 * level for level in LEVELS])
    assert [row["value"] for row in pruned] == pytest.approx([30.0 / level for level in LEVELS])
    assert all(row["low"] < row["value"] < row["high"] for row in rows)
    (band,) = [row for row in rows if row["line"] is None]
    assert band["value"] == 20.0
    assert "cliff" not in part.caption


def test_the_chart_has_a_panel_a_measure_with_a_logarithmic_axis_for_perplexity():
    (panel,) = part_of(world()).charts["along-sparsity-lines"]["concat"]
    scale = panel["layer"][2]["encoding"]["y"]["scale"]
    assert scale["type"] == "log" and scale["domain"][0] < 20.0 < 100.0 <= scale["domain"][1]


def test_cliffs_are_rings_at_their_level():
    entry = {"study": "s", "model": "m", "dataset": "d", "method": "wanda", "finetune": "none"}
    entry |= {"split": WIKI[0], "metric": WIKI[1], "margin": 0.1, "score_dense": 20.0}
    levels = [("dense", 0.0, False), ("w0.3", 0.3, True), ("w0.5", 0.5, False)]
    cliffs = [
        entry | {"prune": name, "sparsity_target": level, "sparsity": level, "cliff": cliff}
        for name, level, cliff in levels
    ]
    part = part_of(world(), cliffs)
    rows = part.data["along_sparsity"]
    assert [(r["level"], r["ring"]) for r in rows if r["line"]] == [
        ("0%", False), ("30%", True), ("50%", False)
    ]  # fmt: skip
    (band,) = [row for row in rows if row["line"] is None]
    assert math.isclose(band["high"], 22.0) and "cliff" in part.caption


def test_of_many_measures_some_are_shown_and_the_rest_is_said(monkeypatch):
    monkeypatch.setattr(along_sparsity, "PANELS", 1)
    made = world()
    for row in [*made.wide]:
        made.score("cell", row, "test", "rouge1", 0.5)
    part = part_of(made)
    assert len(part.charts["along-sparsity-lines"]["concat"]) == 1 and "1 more" in part.html


def test_a_study_without_a_sweep_has_no_such_part():
    assert part_of(World().cell(scores={WIKI: 20.0}).cell("w", sparsity_target=0.5)) is None
    census = facts([], plan={"study": "s", "kind": "census"}, frames={}, tall=pandas.DataFrame())
    assert along_sparsity.part(census) is None
