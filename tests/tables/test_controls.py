"""Controls against the best cell, flags, and the page of examples, on small made-up artifacts."""

from __future__ import annotations

import numpy
import pandas
import pytest

from prunegrid.artifacts.parts import folder_of
from prunegrid.common.file_io import write_json
from prunegrid.evaluation import predictions_file
from prunegrid.tables import examples
from prunegrid.tables.controls import control_rows, flag
from prunegrid.tables.groups import collect
from prunegrid.tables.intervals import resampled
from prunegrid.tables.schema import CONTROLS

N = 30
DRAW = numpy.random.default_rng(1)
HARD = DRAW.normal(0.4, 0.2, N)  # what makes each document hard for all
IDS = [f"d{i}" for i in range(N)]
LABELS = ("label_blank", "label_none")


def artifact(folder, shift, ids=IDS, text="It says `x`."):
    """Make predictions and scores: rouge1 and rep4 shifted alike, empty scores, no bertscore."""
    folder.mkdir()
    noise = numpy.random.default_rng(len(folder.name)).normal(0, 0.01, N)
    scores = {"id": ids, "rouge1": HARD + shift + noise, "rep4": HARD + shift + noise}
    scores |= {"length_ratio": 1.0, "bertscore": numpy.nan, "empty": 0.0}
    scores |= dict(zip(LABELS, ((HARD > 0.5) * 1.0, (HARD <= 0.5) * 1.0), strict=True))
    scores = pandas.DataFrame(scores)
    scores.loc[3, "rouge1"] = None
    scores.to_parquet(folder / "scores.parquet")
    write_json(folder / "manifest.json", {})
    blank = [None] * N
    columns = {"id": ids, "reference": [f"ref {i}" for i in ids], "prediction": [text] * N}
    columns |= {"prompt_tokens": blank, "prediction_tokens": blank}
    columns |= {"hit_limit": [False] * N, "cut": [False] * N}
    predictions_file.write(columns, folder)
    return scores


DIRECTION = {"rouge1": True, "rep4": False, "length_ratio": None, "bertscore": True, "empty": False}


@pytest.fixture
def made(tmp_path):
    """Return (plan, rows, long): cells of two models, one of two seeds, and three controls."""
    (tmp_path / "data").mkdir()
    documents = {"id": IDS, "document": [f"text of {i} " + "w " * 300 for i in IDS], "summary": "s"}
    pandas.DataFrame(documents).to_parquet(tmp_path / "data" / "test.parquet")
    cells, rows, long = [], [], []
    listed = [("m", "dense", None, 0.0), ("n", "w", 0, 0.05), ("n", "w", 1, 0.07), ("m", "x", 0, 9)]
    for model, prune, seed, shift in listed:
        folder = tmp_path / f"{model}{prune}{seed}"
        row = {"model": model, "dataset": "d", "prune": prune, "finetune": "none", "seed": seed}
        row |= {"status": "failed" if prune == "x" else "ok", "reason": None}
        if prune != "x":
            found = artifact(folder, shift).drop(columns="id").mean()
            row |= {f"test_{k}": None if numpy.isnan(v) else v for k, v in found.items()}
        pair = {"scores": {"path": folder}, "predictions": {"path": folder}}
        cell = {"texts": {"test": pair}, "perplexities": {}, "tasks": {}}
        cells.append(cell | {"data": {"path": tmp_path / "data"}})
        rows.append(row)
    baselines = []
    listed = [("lead", "baseline", 0.5), ("echo", "gaming", 0.2), ("other", "gaming", -0.2)]
    for name, role, shift in listed:
        means = artifact(tmp_path / name, shift, text="").drop(columns="id").mean()
        control = {"dataset": "d", "baseline": name, "role": role, "split": "test"}
        control |= {"data": {"path": tmp_path / "data"}, "cut_references": False}
        part = {"path": tmp_path, "folder": name}
        baselines.append(control | {"scores": part, "predictions": part})
        for metric, higher in DIRECTION.items():
            about = {"study": "s", "kind": role, "name": name, "dataset": "d", "split": "test"}
            value = None if numpy.isnan(means[metric]) else float(means[metric])
            facts = {"metric": metric, "value": value, "low": 0, "high": 1, "n": N}
            long.append(about | facts | {"higher_is_better": higher})
    plan = {"study": "s", "title": "T", "cells": cells, "baselines": baselines, "bootstrap_seed": 0}
    return plan, rows, long


def compared(made):
    plan, rows, long = made
    found = control_rows(plan, collect(plan, rows), long)
    return {(row["name"], row["metric"]): row for row in found}


def test_a_control_is_compared_with_the_best_cell_of_all_models_on_the_same_documents(made):
    found = compared(made)
    row = found["echo", "rouge1"]
    assert set(row) == {column.name for column in CONTROLS}
    assert row["best"] == "n / w / none"
    assert found["echo", "rep4"]["best"] == "m / dense / none"  # lower is better there
    plan = made[0]
    folders = [cell["texts"]["test"]["scores"]["path"] for cell in plan["cells"][1:3]]
    folders.append(folder_of(plan["baselines"][1]["scores"]))
    *seeds, own = (pandas.read_parquet(f / "scores.parquet")["rouge1"] for f in folders)
    assert row["best_value"] == pytest.approx((seeds[0].mean() + seeds[1].mean()) / 2)
    assert row["difference"] == pytest.approx(own.mean() - row["best_value"])
    effects = []
    scored = [column.dropna().to_numpy() for column in (own, *seeds)]  # document 3 has no score
    for picks in resampled(plan["bootstrap_seed"], N - 1):
        drawn = [column[picks].mean() for column in scored]
        effects.append(drawn[0] - (drawn[1] + drawn[2]) / 2)
    bounds = numpy.quantile(effects, [0.025, 0.975])
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(tuple(bounds))
    # Unpaired, the documents' own difficulty would blur a difference of this size.
    assert row["difference_high"] - row["difference_low"] < 0.03


def test_a_metric_is_flagged_by_a_gaming_control_alone(made):
    found = compared(made)
    names = ("lead", "echo", "other")
    assert [found[name, "rouge1"]["beats"] for name in names] == [True, True, False]
    assert [found[name, "rep4"]["beats"] for name in names] == [False, False, True]
    assert [found[name, "rouge1"]["flagged"] for name in names] == [True, True, True]
    plan, rows, long = made
    only = [dict(entry, kind="oracle") if entry["name"] == "echo" else entry for entry in long]
    again = {(r["name"], r["metric"]): r for r in control_rows(plan, collect(plan, rows), only)}
    assert again["echo", "rouge1"]["beats"] and again["echo", "rouge1"]["flagged"] is False


def test_equal_values_and_metrics_without_direction_flag_nothing(made):
    found = compared(made)
    assert found["echo", "empty"]["beats"] is False and found["echo", "empty"]["difference"] == 0
    for metric in ("length_ratio", "bertscore"):
        assert found["echo", metric]["beats"] is found["echo", metric]["flagged"] is None


def test_other_documents_or_cut_references_are_not_compared(made):
    plan, rows, long = made
    plan["baselines"][1]["cut_references"] = True
    found = compared(made)
    assert found["echo", "rouge1"]["best"] is found["echo", "rouge1"]["beats"] is None
    assert found["lead", "rouge1"]["flagged"] is False  # by the other gaming control
    path = folder_of(plan["baselines"][0]["scores"]) / "scores.parquet"
    pandas.read_parquet(path).iloc[::-1].to_parquet(path)
    assert compared(made)["lead", "rouge1"]["best"] is None


def test_a_cell_that_is_nearly_silent_is_no_rival(made):
    """The one thing that it says is without repetition: it must not keep the flag down."""
    plan, rows, _ = made
    path = plan["cells"][0]["texts"]["test"]["scores"]["path"] / "scores.parquet"
    frame = pandas.read_parquet(path)
    frame["rep4"] = [-9.0] + [numpy.nan] * (N - 1)
    frame.to_parquet(path)
    found = compared(made)["other", "rep4"]
    assert found["best"] == "n / w / none" and found["flagged"]


def test_the_long_rows_of_cells_and_controls_get_the_flag(made):
    plan, rows, long = made
    cell = {"kind": "cell", "dataset": "d", "split": "test", "value": 1.0}
    more = [cell | {"metric": metric} for metric in ("rouge1", "rep4", "empty", "length_ratio")]
    more.append(cell | {"metric": "rouge1", "split": "ca_test"})
    found = flag(more, control_rows(plan, collect(plan, rows), long))
    assert [row["flagged"] for row in found] == [True, True, False, None, None]


def test_each_example_has_its_label_and_its_scores(made):
    plan, rows, _ = made
    found = pandas.DataFrame(examples.example_rows(plan, examples.collect(plan, rows)))
    assert len(found) == 6 * N and set(found["kind"]) == {"cell", "baseline", "gaming"}
    assert not {"bertscore", *LABELS} & set(found)
    assert (found["label"] == numpy.tile(numpy.where(HARD > 0.5, "blank", "none"), 6)).all()
    assert found["rouge1"].isna().sum() == 6


def test_without_the_metric_labels_there_is_no_label(made):
    scores = pandas.DataFrame({"id": ["a"], "rouge1": [0.5]})
    assert examples.labels(scores).tolist() == [None]


def test_the_page_shows_the_same_few_documents_of_all(made):
    plan, rows, _ = made
    scored = examples.collect(plan, rows)
    page = examples.render(plan, scored)
    assert page == examples.render(plan, scored)
    shown = [line for line in page.splitlines() if line.startswith("## ")]
    assert len(shown) == examples.DOCUMENTS
    for line in shown:
        identifier = line.split(": ")[1]
        assert f"ref {identifier}\n" in page and f"text of {identifier} w" in page
    assert page.count("**m / dense / none** (cell): label") == examples.DOCUMENTS
    assert page.count("**n / w / none** (cell)") == examples.DOCUMENTS  # one seed of two
    assert page.count("**echo** (gaming)") == page.count("**lead** (baseline)") == 4
    assert page.count("(nothing)") == 3 * 4
    assert "more words]" in page and len(page.splitlines()) < 400
    other = examples.render(plan | {"bootstrap_seed": 1}, scored)
    assert other != page


def test_the_documents_drawn_do_not_depend_on_the_cells(made):
    plan, rows, _ = made
    scored = examples.collect(plan, rows)
    assert examples.draw_documents(plan, "d", "test", scored) == examples.draw_documents(
        plan, "d", "test", scored[:1]
    )


def test_a_page_can_be_made_when_the_documents_are_gone(made):
    plan, rows, _ = made
    (plan["cells"][0]["data"]["path"] / "test.parquet").unlink()
    assert "(its artifact is gone)" in examples.render(plan, examples.collect(plan, rows))


def test_a_control_that_is_broken_withholds_no_page(made):
    """The table tells it in its notes; the page is of the others."""
    plan, rows, _ = made
    (folder_of(plan["baselines"][1]["predictions"]) / predictions_file.NAME).unlink()
    whole = [b for b in plan["baselines"] if b["baseline"] != "echo"]
    page = examples.render(plan, examples.collect({**plan, "baselines": whole}, rows))
    assert "**lead**" in page and "**echo**" not in page


def test_a_text_cannot_end_its_fence():
    shown = examples.quoted("a\n````\nb", 9)
    assert shown == "`````text\na\n````\nb\n`````"
    assert examples.quoted("a b  c d", 2) == "```text\na b [… 2 more words]\n```"
