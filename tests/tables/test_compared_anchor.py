"""The known value of the dense model: where it has drifted, a study says so and decides nothing."""

import dataclasses

import pandas
import pytest
from rich.console import Console

from prunegrid.commands import show
from prunegrid.common.file_io import write_json
from prunegrid.tables import cliffs
from prunegrid.tables.compared import contrasts_table, drift, known_values
from prunegrid.tables.files import typed_frame
from prunegrid.tables.page.header import header_of
from prunegrid.tables.render import render_markdown
from prunegrid.tables.schema import COLUMNS, LONG
from tests.helpers import whole_pages
from tests.helpers.contrast_world import World

DENSE = {"prune": "dense", "finetune": "none"}
ENTRY = {"cells": DENSE, "column": "test_rouge1", "within": 0.02, "source": "a paper"}
PAIR = {"a": {"prune": "w"}, "b": {"prune": "dense"}}


@pytest.fixture
def world(tmp_path):
    """A dense cell and a pruned one, each with a ROUGE-1 of 1.0 in its row."""
    return World(tmp_path).cell("dense", 0).cell("w", -0.05)


def known(world, value, **changes):
    wide = pandas.DataFrame(world.rows)
    return known_values({"expected": [ENTRY | {"value": value} | changes]}, wide)


@pytest.mark.parametrize("value", [1.0, 1.019, 0.981])
def test_within_the_tolerance_nothing_is_said(world, value):
    assert drift(known(world, value)) is None


@pytest.mark.parametrize("value", [1.03, 0.97])
def test_beyond_it_the_value_is_told(world, value):
    text = drift(known(world, value))
    assert "dense model has drifted" in text
    assert "test_rouge1" in text and f"{value:g}" in text and "found as 1 " in text


def test_the_value_of_another_cell_is_no_anchor(world):
    (row,) = known(world, 2.0, cells={"prune": "w"})
    assert row["fault"] and drift([row]) is None
    (row,) = known(world, 2.0, cells={"finetune": "none"})  # the dense cell and the pruned one
    assert row["fault"] and drift([row]) is None


def test_a_dense_cell_that_failed_is_no_anchor_that_held(tmp_path):
    world = World(tmp_path).cell("dense", 0, failed="no disk").cell("w", 0)
    assert "no such cell was measured" in drift(known(world, 1.0))


def test_no_contrast_has_a_verdict_and_each_says_why(world):
    entries = [PAIR, PAIR | {"margin": 0.5}]
    before, after = world.verdicts(*entries), world.verdicts(*entries, has_drifted=True)
    assert [row["verdict"] for row in before] == ["worse", "worse"] and before[1]["non_inferior"]
    for row, other in zip(after, before, strict=True):
        assert row["verdict"] == "not given" and "drifted" in row["reason"]
        assert row["non_inferior"] is None and row["value"] == other["value"]
    assert "drifted" in contrasts_table(after) and "worse" not in contrasts_table(after)


def test_what_could_not_be_measured_keeps_its_own_reason(tmp_path):
    world = World(tmp_path).cell("dense", 0).cell("w", 0, failed="it is broken")
    (row,) = world.verdicts(PAIR, has_drifted=True)
    assert row["verdict"] == "not measured" and "it is broken" in row["reason"]


def test_no_sparsity_is_held(world):
    for row, sparsity in zip(world.rows, (None, 0.5), strict=True):
        row |= {"method": "m", "sparsity_target": sparsity, "sparsity_effective": sparsity or 0.0}
    plan = {"study": "s", "cells": world.cells, "bootstrap_seed": 0}
    plan["cliffs"] = [{"split": "test", "metric": "rouge1", "margin": 0.5}]
    tall = typed_frame(world.tall, LONG)
    assert any(row["cliff"] for row in cliffs.cliff_rows(plan, world.rows, tall))
    for row in cliffs.cliff_rows(plan, world.rows, tall, has_drifted=True):
        assert not row["held"] and not row["cliff"] and "drifted" in row["reason"]


def test_the_markdown_begins_with_it(world):
    plan = {"study": "s", "title": "A title", "means": {}}
    wide, tall = typed_frame(world.rows, COLUMNS), typed_frame(world.tall, LONG)
    for value, first in ((1.0, "model: m"), (2.0, "**The dense model has drifted")):
        text = render_markdown(plan, wide, tall, expected=known(world, value))
        title, line, *_ = text.split("\n\n")
        assert title == "# A title" and line.startswith(first)


def test_the_page_begins_with_it(world):
    facts = dataclasses.replace(whole_pages.demo(), known=known(world, 2.0))
    assert header_of(facts).verdict.startswith("The dense model has drifted")
    facts = dataclasses.replace(facts, known=known(world, 1.0))
    assert header_of(facts).verdict == header_of(whole_pages.demo()).verdict


@pytest.mark.parametrize(("value", "said"), [(2.0, "has drifted"), (1.0, "")])
def test_the_terminal_begins_with_it(world, tmp_path, value, said):
    pandas.DataFrame(world.rows).dropna(axis=1, how="all").to_parquet(tmp_path / "s.parquet")
    write_json(tmp_path / "s.manifest.json", {"plan": {"expected": [ENTRY | {"value": value}]}})
    console = Console(width=200, record=True, quiet=False)
    show.print_warning("s", tmp_path, console)
    text = console.export_text()
    assert said in text and bool(text) == bool(said)
