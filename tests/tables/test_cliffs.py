"""Cliffs: the highest sparsity that is non-inferior to dense, on made-up cells."""

import pytest

from prunegrid.tables import cliffs, plot
from prunegrid.tables.cliffs import rising
from prunegrid.tables.compared import cliffs_table
from prunegrid.tables.files import typed_frame
from prunegrid.tables.schema import CLIFFS, COLUMNS, LONG
from tests.helpers.contrast_world import World

LEVELS = {"m-0.1": 0.1, "m-0.5": 0.5, "m-0.9": 0.9}
ROUGE = {"split": "test", "metric": "rouge1", "margin": 0.05}
WIKI = {"split": "wiki", "metric": None, "margin": 0.05}


def line(folder, shifts, chance=()):
    """A dense cell and one for each level, its scores lower by a shift."""
    world = World(folder).cell("dense", 0)
    for prune, shift in zip(LEVELS, shifts, strict=True):
        world.cell(prune, shift)
    for row in world.rows:
        row |= {"method": "magnitude", "sparsity_target": LEVELS.get(row["prune"])}
        row["sparsity_effective"] = LEVELS.get(row["prune"], 0.0)
        if row["prune"] == "dense":
            row["method"] = "dense"
    for entry in world.tall:
        entry["at_chance"] = entry["prune"] in chance
        entry["value"], entry["low"], entry["high"] = 0.5, 0.4, 0.6
    return world


def walk(world, *entries):
    plan = {"study": "s", "cells": world.cells, "cliffs": list(entries), "bootstrap_seed": 0}
    return cliffs.cliff_rows(plan, world.rows, typed_frame(world.tall, LONG))


def cliff(rows):
    found = [row["prune"] for row in rows if row["cliff"]]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize("entry", [ROUGE, WIKI])
def test_the_cliff_is_the_last_level_within_the_margin(tmp_path, entry):
    rows = walk(line(tmp_path, (0.0, -0.02, -0.3)), entry)
    assert [row["prune"] for row in rows] == ["dense", *LEVELS]
    assert [row["held"] for row in rows] == [True, True, True, False]
    assert cliff(rows) == "m-0.5"
    assert {column.name for column in CLIFFS} == set(rows[0])
    # The bound that the interval gives is on the same side of the margin as the test.
    kept, lost = rows[2], rows[3]
    assert kept["p_margin"] <= 0.05 < lost["p_margin"] and lost["sparsity"] == 0.9
    if entry is ROUGE:
        assert kept["low"] > -0.05 > lost["high"] and kept["effect"] == "difference"
    else:
        assert kept["high"] < 1.05 < lost["low"] and kept["effect"] == "ratio"


def test_what_comes_back_behind_the_cliff_is_not_held(tmp_path):
    rows = walk(line(tmp_path, (-0.3, 0.0, 0.0)), ROUGE)
    assert [row["non_inferior"] for row in rows] == [True, False, True, True]
    assert [row["held"] for row in rows] == [True, False, False, False]
    assert cliff(rows) == "dense"


def test_a_score_that_pruning_makes_better_is_told(tmp_path):
    (tmp_path / "a").mkdir()
    rows = walk(line(tmp_path / "a", (0.0, 0.2, 0.3)), ROUGE, WIKI)
    assert [row["better"] for row in rows[:4]] == [False, False, True, True]
    (told,) = {text.split(",")[0] for text in rising(rows) if "rouge1" in text}
    assert told.endswith("rouge1 is better than that of dense at 0.5")
    (tmp_path / "b").mkdir()
    assert rising(walk(line(tmp_path / "b", (0.0, -0.2, -0.3)), ROUGE, WIKI)) == []


def test_a_wider_margin_moves_no_cliff_down(tmp_path):
    world = line(tmp_path, (-0.01, -0.04, -0.2))
    found = [cliff(walk(world, ROUGE | {"margin": m})) for m in (0.005, 0.02, 0.06, 0.3)]
    assert found == ["dense", "m-0.1", "m-0.5", "m-0.9"]


def test_levels_at_chance_are_not_held_and_a_dense_model_at_chance_has_no_cliff(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    rows = walk(line(tmp_path / "a", (0.0, 0.0, 0.0), chance=("m-0.5",)), ROUGE)
    assert cliff(rows) == "m-0.1" and rows[2]["at_chance"]
    assert cliff(walk(line(tmp_path / "b", (0.0, 0.0, 0.0), chance=("dense",)), ROUGE)) is None


def test_a_failed_level_ends_the_line_and_says_why(tmp_path):
    world = line(tmp_path, (0.0, 0.0, 0.0))
    world.rows[2] |= {"status": "failed", "reason": "it is broken"}
    rows = walk(world, ROUGE)
    assert cliff(rows) == "m-0.1" and "it is broken" in rows[2]["reason"]
    text = cliffs_table(rows)
    assert "0.1" in text and "0.5: " in text and "it is broken" in text


def test_lines_are_walked_apart(tmp_path):
    world = line(tmp_path, (0.0, 0.0, -0.3))
    for row in world.rows[2:]:
        row["method"] = "wanda"
    rows = walk(world, ROUGE)
    methods = [row["method"] for row in rows]
    assert methods == ["magnitude"] * 2 + ["wanda"] * 3
    assert [row["prune"] for row in rows if row["cliff"]] == ["m-0.1", "m-0.5"]


def figure_of(world, *entries):
    """Return (frame of the cliffs, table, long table) of a world, as the figure reads them."""
    frame = typed_frame(walk(world, *entries), CLIFFS)
    wide = typed_frame(world.rows, COLUMNS).assign(strategy="none")
    return wide, typed_frame(world.tall, LONG), frame


def test_the_figure_shows_the_cliff(tmp_path):
    wide, tall, frame = figure_of(line(tmp_path, (0.0, -0.01, -0.3)), ROUGE, WIKI)
    along, rows = plot.parts_of({"study": "s"}, wide, tall, frame)
    assert rows is None and [panel.measure.split for panel in along.panels] == ["test", "wiki"]
    for panel in along.panels:
        (series,) = panel.series
        assert [point.place for point in series.points] == [0, 1, 2, 3]  # level by level
        assert [point.ring for point in series.points] == [False, False, True, False]
        assert [text for _, text in panel.ticks] == ["0%", "10%", "50%", "90%"]
        assert panel.note == "cliff at 50%"
    rouge, wiki = (panel.band for panel in along.panels)
    assert (rouge.low, rouge.high) == (pytest.approx(rouge.value - 0.05), rouge.value)
    assert (wiki.low, wiki.high) == (wiki.value, pytest.approx(wiki.value * 1.05))


def test_lines_of_the_figure_that_have_no_cliff_say_so(tmp_path):
    world = line(tmp_path, (0.0, 0.0, -0.3), chance=("dense",))
    for row in world.rows[2:]:
        row["method"] = "wanda"
    along, _ = plot.parts_of({"study": "s"}, *figure_of(world, ROUGE))
    assert along.panels[0].note == "magnitude: no cliff found; Wanda: no cliff found"
    assert along.names == ("magnitude", "Wanda")


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_figure_of_cliffs_is_drawn(tmp_path, form):
    tables = figure_of(line(tmp_path, (0.0, -0.01, -0.3)), ROUGE, WIKI)
    path = tmp_path / f"figure.{form}"
    plot.save(plot.draw_study({"title": "t", "study": "s"}, *tables), path, form, "s")
    assert path.stat().st_size > 5000
    if form == "svg":  # texts are paths there, each behind a comment that says it
        assert path.read_text().count("cliff at 50%") == 2
