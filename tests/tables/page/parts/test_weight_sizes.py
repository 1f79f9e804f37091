"""The part of a census: the shares of its table, by bin and over the depth."""

import pandas
import pytest

from prunegrid.tables import census
from prunegrid.tables.files import typed_frame
from prunegrid.tables.page.parts import weight_sizes
from tests.helpers.page_world import facts

PLAN = {"study": "c", "kind": "census", "title": "", "edges": [0.1], "zeros": "apart"}
PLAN |= {"embeddings": True, "cells": []}
CELL = {"study": "c", "prune": "dense", "finetune": "none", "dataset": None, "seed": None}
FACTS = {"sha256": "a" * 64, "precision": "float32"}
NAMES = ("name", "kind", "stack", "block", "blocks", "parameters", "bin_0", "bin_1", "bin_2")
TENSORS = [
    ("embed", "embedding", None, None, None, 10, 1, 4, 5),
    ("a.0.q", "attention", "a", 0, 2, 20, 20, 0, 0),
    ("a.1.q", "attention", "a", 1, 2, 20, 10, 10, 0),
]


def part_of(*models, failed=()):
    tensors = pandas.DataFrame([dict(zip(NAMES, row, strict=True)) for row in TENSORS])
    tensors = tensors.astype({"block": "Int64", "blocks": "Int64"})
    rows = [
        row
        for model in models
        for row in census.group_rows(PLAN, CELL | {"model": model}, "f", FACTS, tensors)
    ]
    rows += [CELL | {"model": m, "status": "failed", "reason": "r"} for m in failed]
    wide = typed_frame(rows, census.COLUMNS)
    return weight_sizes.part(facts([], plan=PLAN, wide=wide, frames={}, tall=pandas.DataFrame()))


def test_bars_are_the_shares_of_the_whole_model():
    rows = part_of("m").data["census_shares"]
    shares = {(row["group"], row["bin"]): row["share"] for row in rows}
    assert shares == pytest.approx(
        {
            ("all", "0"): 31 / 50, ("all", "(0, 0.1)"): 14 / 50, ("all", "[0.1, inf)"): 5 / 50,
            ("without embeddings", "0"): 30 / 40, ("without embeddings", "(0, 0.1)"): 10 / 40,
            ("without embeddings", "[0.1, inf)"): 0.0,
        }
    )  # fmt: skip


def test_lines_are_the_shares_of_each_block_at_its_depth():
    part = part_of("m")
    lines = {(r["depth"], r["bin"]): r["share"] for r in part.data["census_depth"]}
    assert lines[0.25, "0"] == 1.0 and lines[0.75, "0"] == lines[0.75, "(0, 0.1)"] == 0.5
    assert set(part.charts) == {"census-shares", "census-depth"}


def test_models_that_failed_are_not_drawn_and_too_many_are_said(monkeypatch):
    part = part_of("m", "n", failed=["x"])
    assert {row["cell"] for row in part.data["census_shares"]} == {"m", "n"}
    monkeypatch.setattr(weight_sizes, "ROWS", 25)
    part = part_of("m", "n")
    assert {row["cell"] for row in part.data["census_shares"]} == {"m"} and "1 more" in part.html


def test_a_census_that_counted_nothing_and_another_study_have_no_such_part():
    assert part_of(failed=["x"]) is None
    assert weight_sizes.part(facts([])) is None
