"""Cells over seeds, pairs of cells, and known values: brute force on small made-up artifacts."""

import math

import numpy
import pandas
import pytest

from prunegrid.common.file_io import write_json
from prunegrid.tables.compared import known_values
from prunegrid.tables.groups import collect, pair_rows
from prunegrid.tables.intervals import resampled
from prunegrid.tables.schema import PAIRS

DRAW = numpy.random.default_rng(0)
COMMON = DRAW.normal(2.0, 0.5, 40)  # what makes each item hard for all


def perplexity(folder, shift):
    """Make a perplexity artifact whose windows are as hard as those of the others."""
    folder.mkdir()
    loss = (COMMON + shift + DRAW.normal(0, 0.01, 40)) * 15
    windows = {"window": range(40), "tokens": 15, "loss": loss, "units": 15}
    pandas.DataFrame(windows).to_parquet(folder / "windows.parquet")
    write_json(folder / "manifest.json", {"record": {"metric": "ppl_16_nonoverlap"}})
    return math.exp(loss.sum() / 600)


def scores(folder, shift):
    """Make a scores artifact; one item has no score."""
    folder.mkdir()
    values = COMMON / 10 + shift
    values[3] = numpy.nan
    pandas.DataFrame({"id": range(40), "rouge1": values}).to_parquet(folder / "scores.parquet")
    return float(numpy.nanmean(values))


@pytest.fixture
def made(tmp_path):
    """Return (plan, rows): a dense cell, one of two seeds, and one that failed."""
    cells, rows = [], []
    for name, seed, shift in [("dense", None, 0), ("w", 0, 0.3), ("w", 1, 0.4), ("x", 0, 9)]:
        folder = tmp_path / f"{name}{seed}"
        row = {"model": "m", "dataset": "d", "prune": name, "finetune": "none", "seed": seed}
        row |= {"status": "ok", "reason": None}
        if name == "x":
            row |= {"status": "failed", "reason": "it is broken"}
        else:
            row["wiki_n"] = 40
            row["wiki_ppl_16_nonoverlap"] = perplexity(folder, shift)
            row["test_rouge1"] = scores(tmp_path / f"s{name}{seed}", -shift / 10)
        texts = {"test": {"scores": {"path": tmp_path / f"s{name}{seed}"}}}
        cells.append({"texts": texts, "perplexities": {"wiki": {"path": folder}}, "tasks": {}})
        rows.append(row)
    return {"study": "s", "cells": cells, "bootstrap_seed": 0, "expected": []}, rows


def test_cells_of_all_seeds_are_one_group(made):
    plan, rows = made
    dense, wanda = collect(plan, rows)
    sizes = {group.name: len(group.rows) for group in (dense, wanda)}
    assert sizes == {"dense / none": 1, "w / none": 2}
    key = ("wiki", "ppl_16_nonoverlap")
    values = [row["wiki_ppl_16_nonoverlap"] for row in rows if row["prune"] == "w"]
    assert wanda.values(key) == pytest.approx(values)
    assert wanda.mean(key) == pytest.approx(math.sqrt(values[0] * values[1]))
    assert wanda.spread(key) == pytest.approx(numpy.std(values, ddof=1))
    assert dense.spread(key) is None
    texts = [row["test_rouge1"] for row in rows if row["prune"] == "w"]
    assert wanda.mean(("test", "rouge1")) == pytest.approx(sum(texts) / 2)


def test_pairs_are_bootstrapped_over_the_same_items(made):
    plan, rows = made
    groups = collect(plan, rows)
    found = {row["metric"]: row for row in pair_rows(plan, groups)}
    assert set(found) == {"ppl_16_nonoverlap", "rouge1"}
    ratio = found["ppl_16_nonoverlap"]
    assert set(ratio) == {column.name for column in PAIRS}
    assert (ratio["a"], ratio["b"], ratio["n"]) == ("dense / none", "w / none", 40)
    assert ratio["value"] == pytest.approx(math.exp(-0.35), rel=0.01)
    # The items' own difficulty (a deviation of 0.5) cancels out; unpaired it would not.
    assert ratio["high"] - ratio["low"] < 0.02
    windows = [pandas.read_parquet(cell["perplexities"]["wiki"]["path"] / "windows.parquet")
               for cell in plan["cells"][:3]]  # fmt: skip
    effects = []
    for picks in resampled(plan["bootstrap_seed"], 40):
        nll = [w["loss"].to_numpy()[picks].sum() / 600 for w in windows]
        effects.append(math.exp(nll[0] - (nll[1] + nll[2]) / 2))
    low, high = numpy.quantile(effects, [0.025, 0.975])
    assert (ratio["low"], ratio["high"]) == pytest.approx((low, high), rel=1e-6)
    difference = found["rouge1"]
    assert difference["effect"] == "difference"
    assert difference["value"] == pytest.approx(0.035)
    assert difference["n"] == 39, "the item without a score is no item of both"
    assert difference["low"] - 1e-9 <= 0.035 <= difference["high"] + 1e-9


def test_known_values_are_compared(made):
    plan, rows = made
    wide = pandas.DataFrame(rows)
    mean = wide[wide["prune"] == "w"]["wiki_ppl_16_nonoverlap"].mean()
    column = "wiki_ppl_16_nonoverlap"
    entry = {"cells": {"prune": "w"}, "column": column, "within": 0.01, "source": "a paper"}
    plan["expected"] = [
        entry | {"value": mean * 1.005},
        entry | {"value": mean * 1.02},
        entry | {"value": 1.0, "column": "wiki_ppl"},
        entry | {"value": 1.0, "cells": {"prune": "x"}},
    ]
    near, far, unknown, failed = known_values(plan, wide)
    assert near["fault"] is None and near["found"] == pytest.approx(mean)
    assert near["cells_found"] == 2
    assert "off by -2.0%" in far["fault"]
    assert "no column wiki_ppl" in unknown["fault"] and column in unknown["fault"]
    assert failed["fault"] == "no such cell was measured"


def test_a_silent_cell_is_compared_by_what_it_has_a_score_for(made, tmp_path):
    """A cell whose every output is empty has no repetition: its other metrics are paired still."""
    plan, rows = made
    for name in ("wNone", "w0", "w1", "denseNone"):
        path = tmp_path / f"s{name}" / "scores.parquet"
        if path.exists():
            frame = pandas.read_parquet(path)
            frame["rep2"] = numpy.nan if name == "denseNone" else 0.5
            frame.to_parquet(path)
    for row in rows:
        row["test_rep2"] = None if row["prune"] == "dense" else 0.5
    groups = collect(plan, rows)
    assert [("test", "rep2") in group.items for group in groups] == [False, True]
    found = pair_rows(plan, groups)
    assert {row["metric"] for row in found} == {"ppl_16_nonoverlap", "rouge1"}
