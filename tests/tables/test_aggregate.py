"""The table: its keys are unique, its files written whole."""

import numpy
import pandas
import pytest

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.evaluation import scoring
from prunegrid.tables import aggregate, chain_columns, intervals, leaves, schema
from prunegrid.tables import table_rows as rows
from prunegrid.tables.files import typed_frame
from prunegrid.tables.render import render_markdown
from prunegrid.tables.table_plan import TABLE_ENV
from tests.helpers import ROOT


def test_what_was_removed_is_counted_from_the_dense_model_of_the_row():
    dense = {"parameters": 100}
    rows.require_counted({"parameters_before": 100}, dense)
    rows.require_counted({"parameters_before": None}, dense)
    with pytest.raises(AttestationError, match="counted from 120.*the 100 of the dense model"):
        rows.require_counted({"parameters_before": 120}, dense)


def test_two_rows_of_one_key_are_refused():
    row = {column.name: "x" for column in schema.KEYS}
    aggregate.unique_key([row, row | {"seed": 1}])
    with pytest.raises(ValueError, match="two rows have the key"):
        aggregate.unique_key([row, dict(row)])


def test_the_interval_of_a_mean_is_the_bootstrap_percentile():
    values = numpy.array([0.0, 1.0] * 50)
    low, high = intervals.interval({"bootstrap_seed": 0}, values)
    assert 0.38 < low < 0.42 and 0.58 < high < 0.62
    assert intervals.interval({"bootstrap_seed": 0}, values) == (low, high)
    assert intervals.interval({"bootstrap_seed": 0}, numpy.array([0.5])) == (0.5, 0.5)


def test_a_number_of_the_corpus_has_the_interval_of_its_metric(tmp_path):
    true = ["the cat sat on the mat .", "two dogs ran away .", "it rained all day long ."]
    said = [true[0], "two dogs ran home .", ""]
    texts = pandas.DataFrame({"id": list("abc"), "reference": true, "prediction": said})
    found = scoring.score(texts, {"bleu": {}, "chrf": {}})
    found.examples.to_parquet(tmp_path / "scores.parquet")
    scores = {"record": {"summary": found.summary, "metrics": found.facts}}
    made = rows.text_rows({"bootstrap_seed": 1}, {}, "test", {"path": str(tmp_path)}, scores)
    bleu, chrf, corpus = made
    own = found.facts["bleu"]["details"]
    assert bleu["metric"] == "bleu" and (bleu["low"], bleu["high"]) == (own["low"], own["high"])
    # Of three texts, one perfect and one empty: a symmetric interval would leave the range.
    assert 0 <= bleu["low"] < bleu["value"] < bleu["high"] <= 100.01
    assert chrf["low"] < chrf["value"] < chrf["high"]
    assert corpus["low"] is corpus["high"] is None  # its metric gives none


def test_the_conda_environments_pin_what_pip_installs():
    from prunegrid.artifacts.keys import read_pins

    locked = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if "==" in line and not line.startswith(" "):
            name, _, version = line.partition("==")
            locked[name.lower().replace("_", "-")] = version.split()[0]
    for env in ("envs/models.yaml", str(TABLE_ENV)):
        pins = read_pins(ROOT / env)
        assert pins
        for name, version in pins.items():
            if name != "torch":  # it comes in several builds, so it is pinned without a hash
                assert locked[name] == version, f"{env}: {name}"


def test_the_lock_names_no_address():
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_a_chain_costs_what_its_fine_tunings_cost():
    first = {"learning_rate": 1e-3, "compute_dtype": "bfloat16", "runs": 3, "dev_loss": 2.5}
    first |= {"steps": 10, "tokens": 900, "train_seconds": 2.0, "peak_memory_bytes": 70}
    last = first | {"learning_rate": 1e-4, "compute_dtype": "float32", "runs": 1}
    last |= {"peak_memory_bytes": 60, "dev_loss": None}
    assert chain_columns.training([first, last]) == {
        "learning_rate": 1e-4,
        "train_runs": 4,
        "train_steps": 20,
        "train_tokens": 1800,
        "train_seconds": 4.0,
        "train_peak_memory_bytes": 70,
        "dev_loss": None,
        "compute_dtype": "bfloat16+float32",
    }
    assert set(chain_columns.training([first])) <= {column.name for column in schema.COLUMNS}
    assert chain_columns.training([]) == {}


def page(cells, long=(), plan=(), **parts):
    """Return the page of a study without a title."""
    wide, tall = typed_frame(cells, schema.COLUMNS), typed_frame(list(long), schema.LONG)
    return render_markdown({"title": "", "study": "s", **dict(plan)}, wide, tall, **parts)


def test_a_failed_cell_is_shown_with_its_reason():
    cell = {"model": "m", "prune": "p", "finetune": "f", "status": "failed", "reason": "too odd"}
    text = page([cell])
    assert "m / p / f: too odd" in text and "1 of 1 cells failed" in text
    assert "unattested" not in text
    rows = [{"name": "A", "piqa": 0.5}, {"name": "B|C", "x": None, "n": 3}]
    text = page([cell], plan={"published": {"source": "a report", "rows": rows}})
    head, shown = text.split("Published elsewhere, **unattested**")
    assert "piqa" not in head and "a report" in shown
    lines = [" ".join(line.split()) for line in shown.splitlines() if line.startswith("| ")]
    assert lines == ["| name | piqa | x | n |", "| A | 0.5 | | |", r"| B\|C | | | 3 |"]


def test_a_broken_manifest_is_left_out_of_what_was_read(tmp_path):
    refs = {}
    texts = {"whole": '{"content": "c"}', "broken": '{"content": "c', "list": "[]"}
    for name, text in texts.items():
        file_io.write_text(tmp_path / name / artifact_folder.MANIFEST, text)
        refs[name] = {"path": str(tmp_path / name)}
    cell = {"texts": {}, "perplexities": refs, "tasks": {"t": {"path": "gone"}}, "efficiency": None}
    found = aggregate.contents_read({"cells": [cell], "baselines": []})
    assert found == {f"{tmp_path}/whole/{artifact_folder.MANIFEST}": "c"}


def rendered(controls):
    cell = {"model": "m", "prune": "p", "finetune": "f", "status": "ok"}
    metrics = {"rouge1": 0.5, "rep4": 0.1, "label_loop": 0.25, "label_none": 0.75}
    about = {"split": "test", "dataset": "d", "n": 8}
    long = [
        {**about, "kind": kind, "name": name, "metric": metric, "value": value}
        for kind, name in (("cell", "m / p / f"), ("gaming", "echo"))
        for metric, value in metrics.items()
    ]
    return page([cell], long, controls=typed_frame(controls, schema.CONTROLS))


def test_controls_flags_and_labels_are_shown():
    row = {"role": "gaming", "name": "echo", "split": "test", "metric": "rouge1", "dataset": "d"}
    row |= {"beats": True, "flagged": True}
    row |= {"difference": 0.1, "difference_low": 0.02, "difference_high": 0.2}
    text = rendered([row, row | {"name": "other", "difference": 0.05}])
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "| role | control | data | split | n | rouge1 | rep4 |" in lines
    assert "| gaming | echo | d | test | 8 | 0.500 | 0.100 |" in lines
    assert "Alone they say nothing. test rouge1: echo by +0.100 (0.020–0.200)." in text
    assert "| outputs of | data | seed | split | loop | none |" in lines
    assert "| m / p / f | d | | test | 0.25 | 0.75 |" in lines
    calm = rendered([row | {"beats": False, "flagged": False}])
    assert "No metric is flagged" in calm and "alone they say nothing" not in calm
    assert "flagged" not in rendered([row | {"beats": None, "flagged": None}])


def test_zeros_are_told_of_the_steps_after_the_last_pruning():
    def step(stage, **facts):
        return {"stage": stage, "record": {{"finetune": "train"}.get(stage, stage): facts}}

    free = step("finetune", zeros_promised="none", zeros_filled=7)
    kept = step("finetune", zeros_promised="all", zeros_filled=0, merge_loss_before=1.0)
    packed = step("transform", zeros_promised="all", zeros_filled=0)
    dense = step("finetune", zeros_promised=None, zeros_filled=None)
    model = {"stage": "model", "record": {}}
    prune = {"stage": "prune", "record": {"zeros_revived": 3}}
    assert chain_columns.recovered([model, dense]) == {}
    assert chain_columns.recovered([model, prune]) == {}
    assert chain_columns.recovered([model, prune, free, packed]) == {
        "zeros_promised": "none",
        "zeros_filled": 7,
    }
    assert chain_columns.recovered([model, prune, free, prune, kept, packed]) == {
        "zeros_promised": "all",
        "zeros_filled": 0,
        "merge_loss_before": 1.0,
        "zeros_revived": 3,  # by the second pruning; before the first one nothing was pruned
    }


def test_experts_that_few_tokens_reached_are_counted_for_the_last_pruning_that_knows_them():
    def prune(**facts):
        return {"stage": "prune", "record": {"zeros_revived": 0, **facts}}

    first = prune(experts={"unreached": {"a": 0, "b": 0}, "few": {"c": 3}})
    last = prune(experts={"unreached": {}, "few": {"a": 3, "b": 1, "c": 2}})
    assert chain_columns.recovered([first]) == {"experts_unreached": 2, "experts_few": 1}
    columns = chain_columns.recovered([first, last, prune()])
    assert (columns["experts_unreached"], columns["experts_few"]) == (0, 3)
    assert "experts_few" not in chain_columns.recovered([prune()])


@pytest.mark.parametrize(
    ("state", "told", "row"),
    [
        (None, "was not made", "missing"),
        ({"state": "interrupted", "reason": "Ctrl-C"}, "was interrupted", "missing"),
        ({"state": "failed", "reason": "the disk is full"}, "the disk is full", "failed"),
        ({"state": "running", "pid": 7, "host": "there"}, "its job on there has not", "failed"),
    ],
)
def test_a_missing_artifact_says_what_its_job_last_said(tmp_path, state, told, row):
    status = tmp_path / "status.json"
    if state:
        file_io.write_json(status, state)
    ref = {"path": str(tmp_path / "none"), "key": "1" * 16, "label": "l", "status": str(status)}
    with pytest.raises(PrunegridError, match=told) as caught:
        leaves.open_leaves({"ancestors": []}, {"efficiency:": ref})
    assert leaves.status_of(caught.value)["status"] == row
